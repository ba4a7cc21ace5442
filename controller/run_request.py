"""The body of POST /v1/runs → our Request and the plan to run: files looked up, every step checked."""

import uuid
from collections.abc import Collection
from dataclasses import replace

from cluster.errors import BadFile, BadRequest
from cluster.settings import AppSettings
from cluster.tasks import Task
from controller.intake import Intake
from controller.openai_schema import PlanFile, RunRequest
from controller.plan_json import GivenPlan, check_id, check_text, read_steps
from controller.request import Request, RequestFile
from controller.terms import Terms

UNASKED = "Tell what came out."  # where neither the plan nor the body says what was asked


def read_run(body: RunRequest, terms: Terms, intake: Intake, tasks: Collection[Task], settings: AppSettings) -> tuple[Request, GivenPlan]:
    """`tasks` are those that can be run here. Blocks while files are looked up.

    Raises BadRequest with one sentence that names the step and the fault, NotFound for a file that is not there, and BadFile.
    """
    limits = settings.limits
    asked = next((text.strip() for text in (body.request, body.plan.request) if text and text.strip()), UNASKED)
    text = check_text(asked, "request", limits.max_message_characters)
    if len(body.plan.files) > limits.max_files:
        raise BadRequest(f"the plan has {len(body.plan.files):,} files; the limit is {limits.max_files}")
    files = tuple(_file(entry, intake, limits.max_text_characters) for entry in body.plan.files)
    ids = [file.id for file in files]
    if twice := next((file_id for file_id in ids if ids.count(file_id) > 1), None):
        raise BadRequest(f"two files of the plan have the id {twice}")
    request = Request(uuid.uuid4().hex, text, files, terms=terms if body.reuse else replace(terms, reads_cache=False))
    steps = read_steps(body.plan.steps, request.media, tasks, max_steps=limits.max_run_steps, max_characters=limits.max_message_characters)
    return request, steps


def _file(entry: PlanFile, intake: Intake, max_characters: int) -> RequestFile:
    file_id = check_id(entry.id, "plan.files")
    ref = intake.known(entry.sha256)
    text = intake.text(ref)
    if text is not None and len(text) > max_characters:
        raise BadFile(f"{ref.name} has {len(text):,} characters; the limit is {max_characters:,}")
    return RequestFile(file_id, ref, text)
