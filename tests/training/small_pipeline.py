"""Questions about animals and a model of random weights, for pipelines of a few seconds a stage."""

import json
import shutil
from pathlib import Path

from rocketrank.model_settings import ModelSettings, save_settings

ANIMALS = ["fox", "bear", "owl", "frog", "horse", "whale", "spider", "eagle", "rabbit"]
ANIMALS += ["snake", "goat", "duck"]
FACTS = {
    "food": ("eats", ["grass", "fish", "mice", "leaves"]),
    "home": ("lives in the", ["forest", "river", "desert", "barn"]),
    "colour": ("has skin that is", ["brown", "white", "green", "black"]),
    "sound": ("makes a sound that is", ["loud", "deep", "soft", "high"]),
}

RECIPE = """
seed = 3
[data]
corpus = ["corpus.jsonl"]
queries = "queries.tsv"
qrels = "train.txt"
dev_share = 0.25
dev_depth = 36
test_queries = "queries.tsv"
test_qrels = "test.txt"
[mining]
depth = 10
negatives = 5
low = 0.5
[retriever]
epochs = 6
list_length = 4
lists_per_step = 6
learning_rate = 5e-3
[reranker]
list_length = 4
lists_per_step = 6
learning_rate = 1e-3
[joint]
epochs = 4
list_length = 4
lists_per_step = 6
learning_rate = 5e-3
contrastive = 1.0
checkpoint_every = 1
"""


def write_recipe(folder: Path, reference: Path) -> Path:
    """The recipe, and beside it the model that it starts from, a tiny one of ``reference``."""
    model = folder / "tiny"
    model.mkdir()
    for each in (reference / "tiny-bert").glob("*[!z]"):
        shutil.copyfile(each, model / each.name)
    settings = ModelSettings(
        role="dual-encoder", pooling="mean", normalize=True, scale=20.0, passage_length=64
    )
    save_settings(model, settings)
    path = folder / "small.toml"
    path.write_text(f'{RECIPE}[models]\nretriever = "{model}"\n')
    return path


def write_data(folder: Path) -> None:
    """Four facts about each of twelve animals: 24 questions to train on, 12 to test with.

    A test question about every second animal has another's passage as a second positive, which
    is a positive of a training question too.
    """
    files: dict[str, list[str]] = {name: [] for name in ("corpus", "queries", "train", "test")}
    for row, animal in enumerate(ANIMALS):
        for column, (fact, (verb, values)) in enumerate(FACTS.items()):
            text = f"The {animal} {verb} {values[(row + column) % 4]}."
            passage, query = f"{animal}-{fact}", f"{animal}.{fact}"
            files["corpus"].append(json.dumps({"_id": passage, "title": animal, "text": text}))
            files["queries"].append(f"{query}\twhat is the {fact} of the {animal}")
            part = {0: "train", 1: "train", 3: "test"}.get((row + column) % 4)
            if part:
                files[part].append(f"{query} 0 {passage} 1")
            if part == "test" and row % 2:
                files[part].append(f"{query} 0 {ANIMALS[row - 2]}-{fact} 2")
    ends = {"corpus": "jsonl", "queries": "tsv", "train": "txt", "test": "txt"}
    for name, lines in files.items():
        (folder / f"{name}.{ends[name]}").write_text("\n".join(lines) + "\n")


def write_corpus(folder: Path) -> None:
    """Two pages about each animal, of which titles and sentences can be asked, and no judgement."""
    lines = []
    for row, animal in enumerate(ANIMALS):
        for page in ("day", "night"):
            said = [
                f"The {animal} {verb} {values[(row + column + len(page)) % 4]} by {page}."
                for column, (verb, values) in enumerate(FACTS.values())
            ]
            title = f"The {page} of the {animal}"
            record = {"_id": f"{animal}-{page}", "title": title, "text": " ".join(said)}
            lines.append(json.dumps(record))
    (folder / "pages.jsonl").write_text("\n".join(lines) + "\n")
