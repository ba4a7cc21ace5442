"""Experts for any checkpoint of the hub, one file per kind of network; the files beside this folder are the embedded experts.

A file here may import torch, transformers and diffusers at its top: the registry imports it when a model of its kind is loaded.
"""
