"""GraphView: a RunView on a terminal, as rich prints it. One line a step, in columns that hold still, within the terminal's size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from controller.terminal.graph_lines import BRANCH, CHAIN, LAST_BRANCH, graph_lines
from controller.terminal.run_view import Phase, Round, RunView, State, StepView
from controller.terminal.terminal_text import one_line, seconds

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINS_PER_S = 8
GAP = "  "
MARGIN_CELLS = 2  # at the right edge: the "^C" that a terminal shows after the last line must not wrap it
TIME_CELLS = 7
LEAST_DETAIL_CELLS = 14  # below which there is no such column
WIDE_CELLS = 130  # from which there is room for why a model was chosen
MOST_GIVEN_CELLS = 32  # of an input
MOST_NOTE_LINES = 3

_ICONS = {
    State.WAITING: ("·", "dim"),
    State.RUNNING: ("–", "yellow"),  # of a run that is over
    State.DONE: ("✓", "green"),
    State.REUSED: ("✓", "green"),
    State.FAILED: ("✗", "red"),
    State.SKIPPED: ("–", "yellow"),
}
_BELOW = {BRANCH: "│  ", LAST_BRANCH: "   ", CHAIN: "  "}  # what goes on under an arrow


@dataclass(frozen=True, slots=True)
class _Row:
    step: StepView
    front: str  # the graph's arrow

    @property
    def label_cells(self) -> int:
        return cell_len(self.front) + 2 + cell_len(one_line(self.step.id)) + len(GAP) + cell_len(one_line(self.step.task))

    @property
    def margin(self) -> str:
        """In front of what is said below it."""
        arrow = next((one for one in _BELOW if self.front.endswith(one)), "")
        return self.front.removesuffix(arrow) + _BELOW.get(arrow, "") + GAP


@dataclass(frozen=True, slots=True)
class _Columns:
    """Cells of each. `detail` 0: it is left out."""

    label: int
    detail: int
    model: int
    has_why: bool


class GraphView:
    """`is_last`: it stays on the screen, so that it may be as long as it is."""

    def __init__(self, view: RunView, now_s: float, *, is_last: bool = False) -> None:
        self._view = view
        self._now_s = view.ended_s if view.ended_s is not None else now_s
        self._is_last = is_last

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(1, options.max_width - MARGIN_CELLS)
        yield self._head(width)
        for sentence in self._view.withdrawn:
            yield _cut(Text(f"{GAP}{one_line(sentence)}", "yellow"), width)
        rows = [(group, [_Row(self._view.steps[step], front) for front, step in self._lines(group)]) for group in self._view.rounds]
        columns = _columns([row for _, group in rows for row in group], width)
        room = None if self._is_last else max(1, options.size.height - 2 - len(self._view.withdrawn) - len(rows))
        shown, has_notes = self._shown([row for _, group in rows for row in group], room)
        for group, its_rows in rows:
            if group.why is not None:
                yield _cut(Text(f"{GAP}planned again, since {one_line(group.why)}", "yellow"), width)
            for row in its_rows:
                if row.step.id in shown:
                    yield self._line(row, columns, width)
                    yield from self._notes(row, columns, console, width) if has_notes else ()
        if left := [step for step in self._view.steps.values() if step.id not in shown]:
            yield _cut(Text(f"{GAP}⋮ {len(left)} more: {_counts(left)}", "dim"), width)

    def _lines(self, group: Round) -> list[tuple[str, str]]:
        return graph_lines({step: self._view.steps[step].needs for step in group.steps})

    def _head(self, width: int) -> Text:
        view = self._view
        failed = view.count(State.FAILED, State.SKIPPED)
        if view.ended_s is None:
            head = Text.assemble((self._spin(), "cyan"), " ", (view.phase, "bold"))
        elif view.broke_off:
            head = Text.assemble(("✗", "red"), f" stopped while {view.phase}")
        else:
            head = Text.assemble(("!", "yellow") if failed else ("✓", "green"), " ", "" if view.steps else "no step needed")
        if view.steps:
            head.append(("" if view.ended_s is not None and not view.broke_off else GAP) + _progress(view))
        return _columned([(head, width - TIME_CELLS - len(GAP))], seconds(self._now_s - view.started_s), width, "bold")

    def _shown(self, rows: Sequence[_Row], room: int | None) -> tuple[set[str], bool]:
        """Ids of the steps for which there is room, the most telling first, and whether there is room for notes."""
        notes = MOST_NOTE_LINES * sum(len(row.step.gave_way) + bool(row.step.reason) for row in rows)
        if room is None or len(rows) + notes <= room:
            return {row.step.id for row in rows}, True
        order = [State.RUNNING, State.FAILED, State.WAITING, State.DONE, State.REUSED, State.SKIPPED]
        ranked = sorted(rows, key=lambda row: order.index(row.step.state))
        return {row.step.id for row in (ranked if len(rows) <= room else ranked[: room - 1])}, False

    def _line(self, row: _Row, columns: _Columns, width: int) -> Text:
        step = row.step
        icon, style = (self._spin(), "cyan") if step.state is State.RUNNING and self._view.ended_s is None else _ICONS[step.state]
        is_pale = step.state in (State.WAITING, State.SKIPPED)
        label = Text.assemble(
            (row.front, "dim"), (icon, style), " ", (one_line(step.id), "cyan"), GAP, (one_line(step.task), "dim" * is_pale)
        )
        cells = [(label, columns.label)]
        if columns.detail:
            cells.append((_detail(step, columns.detail), columns.detail))
        model = Text(one_line(step.model), "dim" * is_pale)
        if cell_len(model.plain) > columns.model:
            model = Text(model.plain.rpartition("/")[2], "dim" * is_pale)
        if columns.has_why and step.model == step.chosen:
            model.append(f"{GAP}{one_line(step.why)}", "dim")
        cells.append((model, columns.model))
        return _columned(cells, self._time(step), width, style if step.state in (State.RUNNING, State.FAILED) else "dim")

    def _time(self, step: StepView) -> str:
        if self._view.ended_s is not None and not step.is_over:
            return "stopped"
        match step.state:
            case State.DONE | State.FAILED if step.took_s is not None:
                return seconds(step.took_s)
            case State.RUNNING if step.started_s is not None:
                return seconds(max(0.0, self._now_s - step.started_s))
        return step.state.value

    def _notes(self, row: _Row, columns: _Columns, console: Console, width: int) -> Iterator[Text]:
        """Why a step has another model than was chosen, or no result."""
        step = row.step
        gave_way = [sentence for sentence in step.gave_way if sentence != step.reason]
        if gave_way and step.state in (State.DONE, State.REUSED):
            yield from _wrapped(f"fell back to {step.model}, since {'; '.join(gave_way)}", "yellow", row, console, width)
        elif gave_way:
            yield from _wrapped(f"gave way: {'; '.join(gave_way)}", "yellow", row, console, width)
        if step.state is State.FAILED:
            yield from _wrapped(step.reason, "red", row, console, width)
        elif step.state is State.SKIPPED and not columns.detail:
            yield from _wrapped(step.reason, "yellow", row, console, width)

    def _spin(self) -> str:
        return SPINNER[int(self._now_s * SPINS_PER_S) % len(SPINNER)]


def _progress(view: RunView) -> str:
    done, total = view.count(State.DONE, State.REUSED), len(view.steps)
    failed, skipped = view.count(State.FAILED), view.count(State.SKIPPED)
    more = "".join(f", {count} {word}" for count, word in ((failed, "failed"), (skipped, "skipped")) if count)
    steps = "step" if total == 1 else "steps"
    return f"{total} {steps} done" if done == total and view.phase is not Phase.RUNNING_EARLY else f"{done} of {total} {steps} done{more}"


def _counts(steps: Sequence[StepView]) -> str:
    return ", ".join(f"{count} {state}" for state in State if (count := sum(step.state is state for step in steps)))


def _columns(rows: Sequence[_Row], width: int) -> _Columns:
    """As wide as what is in them, within shares of the whole; what is left is the detail's."""
    free = width - TIME_CELLS - 2 * len(GAP)
    label = min(max((row.label_cells for row in rows), default=0), max(free * 3 // 5, free - 34))
    has_why = width >= WIDE_CELLS
    models = [cell_len(one_line(row.step.model)) + (cell_len(one_line(row.step.why)) + len(GAP)) * has_why for row in rows]
    model = min(
        max(models, default=0), free - label, max(free * 2 // 5, free - label - LEAST_DETAIL_CELLS - len(GAP)) if has_why else free * 2 // 5
    )
    detail = free - label - model - len(GAP)
    if detail >= LEAST_DETAIL_CELLS:
        return _Columns(label, detail, model, has_why)
    return _Columns(label, 0, max(0, free - label), has_why)


def _detail(step: StepView, width: int) -> Text:
    """What it works on, and what came of it."""
    if step.state is State.SKIPPED:
        return Text(one_line(step.reason), "yellow")
    told = Text()
    for number, one in enumerate(step.given):
        told.append(", " if number else "", "dim")
        told.append(_shortened(one_line(one), MOST_GIVEN_CELLS), "cyan" if one in step.needs else "dim")
    if step.gave:
        told = _cut(told, max(width // 2, width - cell_len(one_line(step.gave)) - 3))
        told.append(" → " if told else "→ ", "dim")
        told.append(one_line(step.gave))
    return told


def _columned(cells: Sequence[tuple[Text, int]], last: str, width: int, style: str) -> Text:
    """Cells of those widths, and the last one at the right edge."""
    line = Text(no_wrap=True)
    for text, room in cells:
        if room > 0:
            text.truncate(room, overflow="ellipsis", pad=True)
            line.append_text(text)
            line.append(GAP)
    line.append(last.rjust(TIME_CELLS), style)
    return _cut(line, width)


def _wrapped(sentence: str, style: str, row: _Row, console: Console, width: int) -> Iterator[Text]:
    room = max(10, width - cell_len(row.margin))
    lines = list(Text(one_line(sentence)).wrap(console, room))
    for number, line in enumerate(lines[:MOST_NOTE_LINES]):
        line.rstrip()
        line.append("…" if number + 1 == MOST_NOTE_LINES < len(lines) else "")
        yield _cut(Text.assemble((row.margin, "dim"), (line.plain, style)), width)


def _shortened(text: str, cells: int) -> str:
    return _cut(Text(text), cells).plain


def _cut(text: Text, width: int) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    text.truncate(max(1, width), overflow="ellipsis")
    return text
