"""RRDataset: images as made, after social networks ("transfer") and photographed or scanned again ("redigital").

Each condition is a split of its own. Training images lie in another archive beside the test's. Generators are not
recorded in the names.
"""

from gammascope.data.benchmarks.base import Benchmark
from gammascope.data.layouts import Folders, only
from gammascope.sample import Label

LABELS = {"real": Label.REAL, "ai": Label.FAKE}
SPLITS = ("original", "transfer", "redigital", "val", "train")

BENCHMARK = Benchmark(
    title="RRDataset",
    paper="arXiv:2509.09172",
    licence="CC-BY-4.0",
    url="https://zenodo.org/records/14963880",
    splits=SPLITS,
    labels=LABELS,
    tree="""\
├── RRDataset_final/
│   ├── original/{ai,real}/<scenario>_######.*
│   ├── transfer/{ai,real}/transfer_*.jpg
│   └── redigital/{ai,real}/redigital_*.jpg
└── RRDataset_original_train_val/
    └── {train,val}/{ai,real}/*""",
    read=Folders(labels=LABELS, splits=only(SPLITS), parts={}),
)
