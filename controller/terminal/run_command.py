"""`hgpt run`: a plan file, as `hgpt plan --json` printed it and a person may have edited it, run by the service."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from cluster.errors import BadRequest
from controller.terminal.ask_command import Asked, add_reply_options, add_run_options, follow, print_outcome
from controller.terminal.client import Client, Wishes, check_folder, read
from controller.terminal.live_progress import progress_on


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("run", help="run a plan that `hgpt plan --json` printed, edited or not")
    parser.add_argument("plan", type=Path, help="the plan's JSON file")
    parser.add_argument("--no-reuse", action="store_true", help="compute every step, also those that did not change since an earlier run")
    add_run_options(parser)
    add_reply_options(parser)
    parser.set_defaults(run=run_command)


def run_command(args: argparse.Namespace) -> int:
    plan = read_plan_file(args.plan)
    if args.save:
        check_folder(args.save)
    client = Client(args.url)
    with progress_on(sys.stderr) as progress:
        wishes = Wishes((), args.timeout, args.seed, args.no_reuse)
        record, answer = follow(client.run(plan, wishes), progress, answer_is_shown=not args.json)
    asked = Asked(record, answer, tuple(client.save(record["artifacts"], args.save or Path())))
    return print_outcome(asked, as_json=args.json, with_timings=args.timings)


def read_plan_file(path: Path) -> dict[str, Any]:
    """Only whether it is a plan at all; the service checks its steps. Raises BadFile or BadRequest."""
    try:
        plan = json.loads(read(path).decode("utf-8-sig"), parse_constant=_refuse, parse_float=_finite)
        json.dumps(plan, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as exc:
        raise BadRequest(f"{path} is not JSON: {exc.msg} in line {exc.lineno}") from exc
    except UnicodeDecodeError as exc:
        raise BadRequest(f"{path} is not JSON that can be read: it is not in UTF-8") from exc
    except UnicodeEncodeError as exc:
        raise BadRequest(rf"{path} is not JSON that can be read: it has half a character (\ud800 to \udfff)") from exc
    except RecursionError as exc:
        raise BadRequest(f"{path} is not JSON that can be read: it is nested too deeply") from exc
    except ValueError as exc:
        raise BadRequest(f"{path} is not JSON that can be read: it has a number of thousands of digits") from exc
    if not isinstance(plan, dict) or not isinstance(plan.get("steps"), list):
        raise BadRequest(f"{path} is no plan: `hgpt plan --json` prints one, an object with a list of steps")
    if not plan["steps"]:
        raise BadRequest(f"the plan in {path} has no steps")
    return plan


def _finite(number: str) -> float:
    if math.isinf(value := float(number)):
        raise BadRequest(f"the plan holds {number[:40]}, which is too large a number")
    return value


def _refuse(constant: str) -> None:
    """Python reads it, JSON does not have it."""
    raise BadRequest(f"the plan holds {constant}, which is no number in JSON")
