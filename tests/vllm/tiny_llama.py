"""A Llama of random weights, small enough to start anywhere. It speaks nonsense: whatever sense a reply has, the engine put there."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT_TOKENS = 16_384  # a planner's prompt is long in a vocabulary this small
VOCABULARY_TOKENS = 1_000
SEED = 20_230_330

BEGIN, END, START_OF_TURN, END_OF_TURN = "<|begin|>", "<|end|>", "<|start_turn|>", "<|end_turn|>"

CHAT_TEMPLATE = (
    f"{{{{ '{BEGIN}' }}}}"
    "{% for message in messages %}"
    f"{{{{ '{START_OF_TURN}' + message['role'] + '\\n' + message['content'] + '{END_OF_TURN}\\n' }}}}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{START_OF_TURN}assistant\\n' }}}}{{% endif %}}"
)

SENTENCES = (
    "Generate an image of a cat wearing an astronaut helmet on the moon, and tell me what the image shows.",
    "Here is an English speech on climate change: translate it into Chinese and summarise the main points.",
    '{"steps": [{"task": "text-to-image", "in": ["request"]}, {"task": "image-to-text", "in": ["step-1"]}]}',
    '{"id": "s1", "task": "automatic-speech-recognition", "inputs": {"audio": "file-1"}, "arguments": {"text": "a"}}',
    "translation summarization text-to-speech text-classification token-classification question-answering",
    "image-classification object-detection image-segmentation depth-estimation visual-question-answering",
    "You plan tasks. Reply with a list of steps. Every step names its task and the steps that it needs.",
)


def save_tiny_llama(folder: Path) -> None:
    """Write the configuration, the safetensors weights and the tokenizer with its chat template, as `from_pretrained` reads them."""
    tokenizer = _tokenizer()
    torch.manual_seed(SEED)
    LlamaForCausalLM(_configuration(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_TOKENS,
        special_tokens=[BEGIN, END, START_OF_TURN, END_OF_TURN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # all 256 bytes: any text can be encoded
        min_frequency=1,
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        additional_special_tokens=[START_OF_TURN, END_OF_TURN],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT_TOKENS,
    )


def _configuration(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,  # heads of 64: a size that vLLM's CPU attention has a kernel for
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        dtype="float32",
    )
