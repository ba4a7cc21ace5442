"""Small pictures of figures, for benchmarks/results: a line for each thing that was measured. Knows nothing of what is measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Points = Sequence[tuple[float, float]]


def plot_lines(out: Path, lines: Mapping[str, Points], *, title: str, across: str, up: str, up_scale: str = "log") -> None:
    """Writes an SVG or a PNG, by the file's ending. The axis across is logarithmic, the other one where it is not told "linear"."""
    import matplotlib

    matplotlib.use("Agg")  # no screen is asked for
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = title  # the same figures give the same file
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name, points in lines.items():
        style = "--" if name == "ideal" else "o-"
        axes.plot([x for x, _ in points], [y for _, y in points], style, label=name, markersize=4, linewidth=1.4)
    axes.set(title=title, xlabel=across, ylabel=up, xscale="log", yscale=up_scale)
    ticks = sorted({x for points in lines.values() for x, _ in points})
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.minorticks_off()
    if up_scale == "linear":
        axes.set_ylim(bottom=0)
    axes.grid(visible=True, linewidth=0.4)
    axes.legend(frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    pyplot.close(figure)
