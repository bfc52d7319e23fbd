"""What ``--help`` shows: commands in groups, each with an example; options in groups; nothing wider than a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import typer
from typer.core import TyperCommand

GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "Look at pictures": {
        "scan": "gammascope scan holiday/ --report report.html",
        "report-error": "gammascope report-error photo.jpg --truth real",
    },
    "Measure a detector": {
        "evaluate": "gammascope evaluate dataset/ --recode jpeg:90 --out results",
        "robustness": "gammascope robustness manifest.csv --limit 100 --out robustness",
        "compare": "gammascope compare results/a results/b",
        "leaderboard": "gammascope leaderboard results/a results/b --out page.html",
        "benchmarks": "gammascope benchmarks genimage",
        "methods": "gammascope methods",
    },
    "Make data, and examine it": {
        "doctor": "gammascope doctor manifest.csv --out audit",
        "synthesize": "gammascope synthesize photos/ --out edited --kind copy_move",
        "autoencoders": "gammascope autoencoders photos/ --out decoders",
        "generators": "gammascope generators --json",
        "contexts": "gammascope contexts draw flags --out flags",
    },
    "Train, and make of several one": {
        "train": "gammascope train recipe.toml --data manifest.csv --out runs/mine",
        "rounds": "gammascope rounds recipe.toml --generator runs/mine --guide holiday --out r",
        "judge": "gammascope judge tune MODEL --data manifest.csv --out runs/judge",
        "calibrate": "gammascope calibrate checkpoint.safetensors --data photos.csv",
        "fuse": "gammascope fuse default strong.safetensors --data photos.csv --out both.json",
        "average": "gammascope average a.safetensors b.safetensors --out mean.safetensors",
        "convert": "gammascope convert effort.pth --from effort --out effort.safetensors",
        "export": "gammascope export checkpoint.safetensors --out exported",
    },
    "Run as a service": {
        "serve": "gammascope serve --port 8000",
        "api-key": "gammascope api-key newsroom >> keys.toml",
    },
}
"""The commands by what they are for, each with a line to try."""

ALIASES: Final[Mapping[str, str]] = {"detect": "scan", "audit": "doctor"}
"""Words of the field for commands of ours."""

_FIRST_COLUMN = 24


class Command(TyperCommand):
    """A command whose help has one paragraph for each group of options, and an example."""

    context_class = typer.Context  # what commands are annotated with

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, options, and options of each group."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                argument = parameter.param_type_name == "argument"
                group = getattr(parameter, "rich_help_panel", None) or "Options"
                names, text = record
                row = (names, _filled(text))
                groups.setdefault("Arguments" if argument else group, []).append(row)
        for name, rows in groups.items():
            if rows:
                with formatter.section(name):
                    formatter.write_dl(rows, col_max=_FIRST_COLUMN)

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        """Write the example."""
        for example in (group.get(self.name or "") for group in GROUPS.values()):
            if example is not None:
                with formatter.section("Example"):
                    formatter.write(f"  {example}\n")


def _filled(text: str) -> str:
    """Put numbers of the library where a help names them: only a command that prints its help imports it."""
    if "{" not in text:
        return text
    from gammascope import checkpoints
    from gammascope.choices import Profile
    from gammascope.detection import fusion
    from gammascope.detection.pipeline import view_under
    from gammascope.imaging.views import places_of

    spec = checkpoints.read_facts(checkpoints.default_path()).view
    large = (100 * spec.size, 100 * spec.size)

    def views(profile: Profile) -> int:
        return len(places_of(large, view_under(spec, profile)))

    low, high = fusion.ZONE
    return text.format(
        default_views=views("default"), fast_views=views("fast"), zone=f"{low:g},{high:g}"
    )


def write_commands(formatter: Any, commands: Mapping[str, Any]) -> None:
    """Write the list of commands in their groups, and other names of some."""
    width = max(map(len, commands)) + 2
    for group, examples in GROUPS.items():
        rows = [
            (name, commands[name].get_short_help_str(limit=1000))
            for name in examples
            if name in commands
        ]
        with formatter.section(group):
            formatter.write_dl(rows, col_max=width)
    also = ", ".join(f"{alias} is {name}" for alias, name in ALIASES.items())
    with formatter.section("Other names"):
        formatter.write_text(f"{also}.")
