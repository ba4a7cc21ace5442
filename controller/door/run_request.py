"""The body of POST /v1/runs → our Request and the plan to run, if it has one: files looked up, every step checked."""

from collections.abc import Collection
from dataclasses import replace

from cluster.errors import BadFile, BadRequest
from cluster.run_ids import new_run_id
from cluster.settings import AppSettings, Limits
from cluster.tasks import Task
from controller.asking.conversation import read_conversation
from controller.asking.intake import Intake
from controller.asking.openai_schema import PlanFile, PlanForm, RunRequest
from controller.asking.request import Request, RequestFile
from controller.asking.terms import Terms
from controller.planning.plan_json import GivenPlan, check_id, check_text, read_steps

UNASKED = "Tell what came out."  # where neither the plan nor the body says what was asked


def read_run(
    body: RunRequest, terms: Terms, intake: Intake, tasks: Collection[Task], settings: AppSettings
) -> tuple[Request, GivenPlan | None]:
    """The plan is None where the body has messages. `tasks` are those that can be run here. Blocks while files are looked up.

    Raises BadRequest with one sentence that names the step and the fault, NotFound for a file that is not there, and BadFile.
    """
    terms = terms if body.reuse else replace(terms, reads_cache=False)
    if body.plan is not None and body.messages:
        raise BadRequest("a run has messages or a plan, and this one has both")
    if body.plan is not None:
        return _read_plan(body, terms, intake, tasks, settings.limits)
    if body.messages:
        return read_conversation(body, terms, intake, settings.limits), None
    raise BadRequest("plan is missing, and so are messages: a run needs one of them")


def _read_plan(body: RunRequest, terms: Terms, intake: Intake, tasks: Collection[Task], limits: Limits) -> tuple[Request, GivenPlan]:
    plan = body.plan or PlanForm(steps=[])
    asked = next((text.strip() for text in (body.request, plan.request) if text and text.strip()), UNASKED)
    text = check_text(asked, "request", limits.max_message_characters)
    if len(plan.files) > limits.max_files:
        raise BadRequest(f"the plan has {len(plan.files):,} files; the limit is {limits.max_files}")
    files = tuple(_file(entry, intake, limits.max_text_characters) for entry in plan.files)
    ids = [file.id for file in files]
    if twice := next((file_id for file_id in ids if ids.count(file_id) > 1), None):
        raise BadRequest(f"two files of the plan have the id {twice}")
    request = Request(new_run_id(), text, files, terms=terms)
    steps = read_steps(plan.steps, request.media, tasks, max_steps=limits.max_run_steps, max_characters=limits.max_message_characters)
    return request, steps


def _file(entry: PlanFile, intake: Intake, max_characters: int) -> RequestFile:
    file_id = check_id(entry.id, "plan.files")
    ref = intake.known(entry.sha256)
    text = intake.text(ref)
    if text is not None and len(text) > max_characters:
        raise BadFile(f"{ref.name} has {len(text):,} characters; the limit is {max_characters:,}")
    return RequestFile(file_id, ref, text)
