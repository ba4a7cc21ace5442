"""`hgpt`: ask, plan, run, top, serve, models, monitor. Parses and dispatches; every command is a file of its own."""

import argparse
import sys
from collections.abc import Sequence

from cluster.errors import HuggingGPTError
from controller.terminal import ask_command, models_command, monitor_command, run_command, serve_command, top_command

FAILED = 1


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        return int(args.run(args))
    except HuggingGPTError as exc:
        print(f"hgpt: {exc.message}", file=sys.stderr)
    except (OSError, UnicodeError) as exc:  # a path or a name that this machine cannot use
        print(f"hgpt: {_in_words(exc)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("hgpt: stopped", file=sys.stderr)
    return FAILED


def parser() -> argparse.ArgumentParser:
    """Every command; the parsed arguments carry `run`, which does it."""
    whole = argparse.ArgumentParser(prog="hgpt", description="Ask a cluster of AI models in plain words, with files.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (ask_command, run_command, top_command, serve_command, models_command, monitor_command):
        module.add_parser(commands)
    return whole


def _in_words(exc: OSError | UnicodeError) -> str:
    """Without the number, which says nothing to a person."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc)


if __name__ == "__main__":
    sys.exit(main())
