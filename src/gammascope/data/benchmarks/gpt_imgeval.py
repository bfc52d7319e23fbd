"""GPT-ImgEval: images by GPT-4o, made from prompts (GenEval) and from pictures (ReasoningEdit). There are no photos.

GPT-4o paints every pixel anew when it edits, so both splits count as generated as a whole. The folder that
ReasoningEdit's archive unpacks to is our reading.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Folders, labelled
from gammascope.sample import Label

SPLITS = {"geneval": (), "reasoning_edit": ("Reason_Edit",)}
LABELS = labelled(SPLITS, Label.FAKE)

BENCHMARK = Benchmark(
    title="GPT-ImgEval",
    paper="arXiv:2504.02782",
    licence="MIT",
    url="https://huggingface.co/datasets/Yejy53/GPT-ImgEval",
    splits=tuple(SPLITS),
    labels=LABELS,
    tree="""\
├── GenEval/*.png            (unpacked from GenEval.zip)
└── ReasoningEdit/*.png""",
    read=Folders(labels=LABELS, splits=SPLITS, parts={}, generator="gpt-4o"),
    classes=frozenset({Label.FAKE}),
    reading="folder of ReasoningEdit",
)
