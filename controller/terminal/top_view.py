"""TopView: what GET /v1/cluster tells, as tables on a terminal. Knows the JSON, not the service; what is null is shown as a dash."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from controller.terminal.terminal_text import one_line, seconds

NARROW_CELLS, WIDE_CELLS = 76, 110  # below the first there are fewer columns and no bars, from the second on bars are longer
SHORT_BAR, LONG_BAR = 8, 20
WARNING, ALARM = 0.75, 0.9  # of a memory
NOTHING = "–"
STAGES = {"plan": "PLAN", "select": "CHOOSE", "execute": "RUN", "answer": "ANSWER", "total": "IN ALL"}


class TopView:
    """`trouble`: why what is shown is no longer news."""

    def __init__(self, cluster: Mapping[str, Any], url: str, trouble: str = "") -> None:
        self._cluster = cluster
        self._url = url
        self._trouble = trouble

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        yield self._head(width)
        if self._trouble:
            yield _line(Text(one_line(self._trouble), "red"))
        for table in (self._nodes(width), self._replicas(width), self._models(width), self._deployments(width), self._latencies()):
            yield ""
            yield table

    def _head(self, width: int) -> Text:
        ingress = self._cluster["ingress"]
        nodes = self._cluster["nodes"]
        alive = NOTHING if nodes is None else str(sum(node["is_alive"] for node in nodes))
        replicas = NOTHING if self._cluster["families"] is None else str(sum(1 for _ in self._each_replica()))
        told = f"{_counted(alive, 'node')}, {_counted(replicas, 'replica')}, "
        told += f"{ingress['runs_in_flight']} of {ingress['max_runs_in_flight']} runs in flight"
        at = time.strftime("%H:%M:%S", time.localtime(self._cluster["time_s"]))
        head = Text.assemble(("hgpt top", "bold"), "  ", told, "  ", (one_line(self._url), "dim"))
        head.truncate(max(1, width - len(at) - 1), overflow="ellipsis", pad=True)
        return _line(head.append(f" {at}", "dim"))

    def _nodes(self, width: int) -> RenderableType:
        if (nodes := self._cluster["nodes"]) is None:
            return _line(Text("nodes: Ray did not tell in time", "yellow"))
        is_wide = width >= NARROW_CELLS
        table = _table("NODE", "ADDRESS", ">CPU", *[">CPUS"] * is_wide, *[">GPUS"] * is_wide, "MEMORY")
        for node in nodes:
            name = Text(one_line(node["name"]), "" if node["is_alive"] else "dim")
            if not node["is_alive"]:
                table.add_row(name, _dim(node["address"]), Text("dead", "red"))
                continue
            used = [_share(node["cpus_allocated"], node["cpus"]), _share(node["gpus_allocated"], node["gpus"])] * is_wide
            cpu = NOTHING if node["cpu_utilization"] is None else f"{100 * node['cpu_utilization']:.0f} %"
            table.add_row(name, _dim(node["address"]), cpu, *used, _memory(node["memory_used_bytes"], node["memory_bytes"], width))
        return table

    def _replicas(self, width: int) -> RenderableType:
        if self._cluster["families"] is None:
            return _line(Text("replicas: the board did not tell in time", "yellow"))
        names = {node["id"]: one_line(node["name"]) for node in self._cluster["nodes"] or ()}
        is_wide = width >= NARROW_CELLS
        table = _table("FAMILY", "REPLICA", *["NODE"] * is_wide, ">WARM", ">IN FLIGHT", "MEMORY")
        for family in self._cluster["families"]:
            for number, replica in enumerate(family["replicas"]):
                warm, in_flight = (sum(model[key] for model in replica["models"]) for key in ("is_loaded", "in_flight"))
                table.add_row(
                    one_line(family["family"]) if not number else "",
                    _dim(replica["replica"]),
                    *[names.get(replica["node"], one_line(replica["node"]))] * is_wide,
                    _number(warm),
                    _number(in_flight),
                    _memory(replica["memory_used_bytes"], replica["memory_budget_bytes"], width),
                )
            if not family["replicas"]:
                table.add_row(one_line(family["family"]), _dim("silent"))
        return table

    def _models(self, width: int) -> RenderableType:
        """Over all replicas, those that are worked on first."""
        is_wide = width >= NARROW_CELLS
        table = _table("MODEL", *["FAMILY"] * is_wide, ">WARM ON", ">IN FLIGHT", ">RUN", *[">LOAD", ""] * is_wide)
        rows = sorted(self._each_model().items(), key=lambda row: (-sum(model["in_flight"] for model in row[1]), row[0]))
        for (name, family), models in rows:
            warm, aside = (sum(model[key] for model in models) for key in ("is_loaded", "is_set_aside"))
            table.add_row(
                Text(one_line(name), "yellow" if aside else "" if warm else "dim"),
                *[_dim(family)] * is_wide,
                _number(warm),
                _number(sum(model["in_flight"] for model in models)),
                _mean(model["mean_run_s"] for model in models),
                *[_mean(model["mean_load_s"] for model in models), Text(f"set aside on {aside}" if aside else "", "yellow")] * is_wide,
            )
        return table if rows else _dim("no model has run yet")

    def _deployments(self, width: int) -> RenderableType:
        if (deployments := self._cluster["deployments"]) is None:
            return _line(Text("deployments: Serve did not tell in time", "yellow"))
        is_wide = width >= NARROW_CELLS
        table = _table("DEPLOYMENT", "STATUS", ">REPLICAS", ">QUEUED", *[">ONGOING"] * is_wide)
        for one in deployments:
            running, other = one["replicas"]["running"], one["replicas"]["other"]
            is_well = one["status"] == "HEALTHY"
            table.add_row(
                Text.assemble((f"{one_line(one['application'])}/", "dim"), one_line(one["deployment"])),
                Text(one_line(one["status"]).lower(), "green" if is_well else "yellow"),
                f"{running} of {running + other}" if other else str(running),
                _number(one["queued_requests"]),
                *[_number(one["ongoing_requests"])] * is_wide,
            )
        return table

    def _latencies(self) -> RenderableType:
        latencies = self._cluster["ingress"]["stage_latencies"]
        if not latencies:
            return _dim("no run has ended yet")
        table = _table("LATENCY", *(f">{name}" for name in STAGES.values()))
        for percentile in ("p50", "p95"):
            row = (seconds(latencies[stage][f"{percentile}_s"]) if stage in latencies else NOTHING for stage in STAGES)
            runs = max(stage["runs"] for stage in latencies.values())
            table.add_row(Text.assemble(percentile, (f" of {runs} {'run' if runs == 1 else 'runs'}", "dim")), *row)
        return table

    def _each_replica(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for family in self._cluster["families"] or ():
            for replica in family["replicas"]:
                yield family["family"], replica

    def _each_model(self) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
        found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for family, replica in self._each_replica():
            for model in replica["models"]:
                found.setdefault((model["model"], family), []).append(model)
        return found


def _table(*columns: str) -> Table:
    """By the names of its columns, those of numbers with a > in front."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim", pad_edge=False)
    for name in columns:
        is_number = name.startswith(">")
        least = len(name) - 1 if is_number else None  # so that names are cut first
        table.add_column(
            name.removeprefix(">"), justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis", min_width=least
        )
    return table


def _memory(used: int | None, whole: int | None, width: int) -> Text:
    """A bar, and the bytes beside it."""
    if used is None or not whole:
        return Text(NOTHING, "dim")
    share = min(1.0, used / whole)
    cells = LONG_BAR if width >= WIDE_CELLS else SHORT_BAR
    filled = round(share * cells)
    if width < NARROW_CELLS:
        return Text.assemble(_bytes(used), (f" of {_bytes(whole)}", "dim"))
    style = "red" if share >= ALARM else "yellow" if share >= WARNING else "green"
    return Text.assemble(("█" * filled, style), ("░" * (cells - filled), "dim"), f" {_bytes(used)}", (f" of {_bytes(whole)}", "dim"))


def _bytes(count: int) -> str:
    """Decimal, as the settings have them."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.{0 if count >= 100 * size else 1}f} {unit}"
    return f"{count} B"


def _share(used: float | None, whole: float | None) -> str:
    if not whole:
        return NOTHING
    return f"{whole:g}" if used is None else f"{used:g} of {whole:g}"


def _number(value: int | None) -> Text:
    return Text(NOTHING if value is None else str(value), "" if value else "dim")


def _mean(values: Iterable[float | None]) -> Text:
    known: Sequence[float] = [value for value in values if value is not None]
    return Text(seconds(sum(known) / len(known))) if known else Text(NOTHING, "dim")


def _counted(number: str, noun: str) -> str:
    return f"{number} {noun}" if number == "1" else f"{number} {noun}s"


def _dim(text: str) -> Text:
    return _line(Text(one_line(text), "dim"))


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
