"""The parts of the ablation that need no training: its variants, its results and its table."""

import importlib
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rocketrank.errors import DataError, UsageError
from rocketrank.training.recipe import Stage, differences, read_recipe

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def runs(scripts: None) -> ModuleType:
    return importlib.import_module("ablation_runs")


@pytest.fixture(scope="module")
def table(scripts: None) -> ModuleType:
    return importlib.import_module("ablation_table")


@pytest.fixture(scope="module")
def pages(scripts: None) -> ModuleType:
    return importlib.import_module("page")


@pytest.fixture(scope="module")
def plan(scripts: None) -> ModuleType:
    return importlib.import_module("ablation_variants")


def joint_stage(plan: ModuleType, name: str, *, lists: int = 351) -> Stage:
    settings = plan.Settings()
    variant = plan.variants(settings)[name]
    steps = plan.steps_of(settings, 351)
    overrides = plan.joint_overrides(settings, 1, variant, steps=steps, lists=lists)
    return read_recipe(plan.RECIPE, overrides).joint


def changes(plan: ModuleType, name: str) -> dict[str, Any]:
    """Where a variant's joint stage is not that of eq. 4, by key."""
    base, other = vars(joint_stage(plan, plan.BASELINE)), vars(joint_stage(plan, name))
    return {key: value for key, value in other.items() if value != base[key]}


def test_the_baseline_is_equation_4_with_gradient_into_both_models(plan: ModuleType) -> None:
    stage = joint_stage(plan, "dynamic")
    assert (stage.supervised, stage.distillation) == (1, 1)
    assert (stage.contrastive, stage.partial_ranking) == (0, 0)
    assert (stage.direction, stage.reduction) == ("student_teacher", "query")
    assert stage.teacher_gradient and not stage.freeze_reranker


def test_each_variant_changes_what_its_name_says_and_nothing_else(plan: ModuleType) -> None:
    assert changes(plan, "supervised") == {"distillation": 0, "contrastive": 1, "accumulate": 8}
    assert changes(plan, "static") == {
        "freeze_reranker": True,
        "supervised": 0,
        "reranker_learning_rate": 0,
    }
    assert changes(plan, "released") == {"direction": "teacher_student", "teacher_gradient": False}
    assert changes(plan, "contrastive") == {"contrastive": 1}
    assert changes(plan, "cprd") == {"partial_ranking": 1}
    assert changes(plan, "contrastive-cprd") == {"contrastive": 1, "partial_ranking": 1}
    assert changes(plan, "denoised") == {}


def test_only_the_denoised_variant_reads_other_lists(plan: ModuleType) -> None:
    hybrid = [name for name, each in plan.variants(plan.Settings()).items() if each.hybrid]
    assert hybrid == ["denoised"]


def test_supervised_only_makes_every_list_a_part_of_its_own(plan: ModuleType) -> None:
    stage = joint_stage(plan, "supervised")
    assert stage.lists_per_step // stage.accumulate == 1


@pytest.mark.parametrize("lists", [351, 700, 723, 1033])
def test_a_run_takes_the_same_steps_whatever_its_file_holds(plan: ModuleType, lists: int) -> None:
    stage = joint_stage(plan, "denoised", lists=lists)
    # as training.loop.Run counts them
    assert max(1, round(stage.epochs * (lists // stage.lists_per_step))) == round(0.75 * (351 // 8))


def test_seeds_differ_in_nothing_but_the_seed(plan: ModuleType) -> None:
    settings = plan.Settings()
    one, other = (
        read_recipe(plan.RECIPE, plan.warmup_overrides(settings, seed)) for seed in (1, 2)
    )
    assert differences(one, other) == ["seed: 1 / 2"]


def test_the_split_is_the_same_for_the_same_queries_and_disjoint(
    runs: ModuleType, plan: ModuleType, shared_data: Path, tmp_path: Path
) -> None:
    from rocketrank.training.lists import read_lists

    found = []
    for name in ("one", "other"):
        study = runs.Study(
            settings=plan.TRIAL,
            data=shared_data / "msmarco",
            work=tmp_path / name,
            results=tmp_path / "results",
        )
        lists = runs.prepare_lists(study)
        found.append(
            [{each.query_id for each in read_lists(path)} for path in (lists.train, lists.dev)]
        )
        assert (lists.train_count, lists.dev_count) == (11, 5)  # 30 % of 16
    assert found[0] == found[1]
    assert not found[0][0] & found[0][1]


def test_a_query_has_undenoised_lists_denoised_ones_and_those_of_promoted_positives(
    runs: ModuleType,
) -> None:
    from rocketrank.training.lists import Candidate, RankingList
    from rocketrank.training.mining_options import MiningOptions
    from rocketrank.training.mining_report import MiningReport

    # sigmoid(t - 5): 0.007 irrelevant, 0.5 uncertain, 0.98 relevant
    scores = {"yes": 5.0, "no": 0.0, "perhaps": 5.0, "too": 9.0}
    candidates = [Candidate(name, int(name == "yes"), text=f"text {name}") for name in scores]
    options = MiningOptions(lists="hybrid", depth=4, negatives=3, with_text=True)
    found = runs.hybrid_of_query(
        RankingList("1", "a question", tuple(candidates)), scores, options, MiningReport()
    )
    assert [
        (each.candidates[0].id, sorted(negative.id for negative in each.negatives))
        for each in found
    ] == [("yes", ["no", "perhaps"]), ("yes", ["no"]), ("too", ["no"])]
    assert all(len(each.positives) == 1 for each in found)


def result(
    table: ModuleType, variant: str, seed: int, values: Sequence[float], **others: Any
) -> Any:
    """A result whose re-ranker and second measure have the same values as everything."""
    of_system = {measure: list(values) for measure in table.MEASURES}
    made = table.Result(
        variant=variant,
        seed=seed,
        settings={
            "layers": 3,
            "list_length": 5,
            "lists_per_step": 8,
            "learning_rate": 2e-5,
            "reranker_learning_rate": 3e-5,
        },
        recipe={},
        steps=43,
        train_queries=351,
        dev_queries=len(values),
        dev_sha256="d" * 64,
        lists={},
        agreement=0.5,
        values=dict.fromkeys(table.SYSTEMS, of_system),
    )
    return made._replace(**others)


def summary(table: ModuleType, results: Sequence[Any], comparisons: int = 2) -> dict[str, Any]:
    rows = table.summarise(
        results,
        ["dynamic", "static"],
        "retriever",
        table.PRIMARY,
        baseline="dynamic",
        comparisons=comparisons,
    )
    return {row.variant: row for row in rows}


def test_means_and_differences_are_those_by_hand(table: ModuleType) -> None:
    results = [
        result(table, "dynamic", 1, [0.0, 1.0, 0.5]),
        result(table, "dynamic", 2, [1.0, 1.0, 0.4]),
        result(table, "static", 1, [0.3, 1.0, 0.5]),
        result(table, "static", 2, [1.0, 0.7, 0.4]),
    ]
    rows = summary(table, results)
    assert rows["dynamic"].mean == pytest.approx((0.5 + 0.8) / 2)
    assert rows["dynamic"].deviation == pytest.approx(statistics.stdev([0.5, 0.8]))
    assert rows["dynamic"].difference is None
    assert rows["static"].difference == pytest.approx((0.1 - 0.1) / 2)
    low, high = rows["static"].interval
    assert low < 0 < high
    assert not rows["static"].significant


def test_a_difference_that_every_query_has_is_its_own_interval(table: ModuleType) -> None:
    results = [
        result(table, variant, seed, [base + value for value in (0.1, 0.2, 0.7)])
        for variant, base in (("dynamic", 0.0), ("static", 0.25))
        for seed in (1, 2, 3)
    ]
    row = summary(table, results)["static"]
    assert row.interval == pytest.approx((0.25, 0.25))
    assert row.significant


def test_a_difference_of_one_seed_in_three_is_not_significant(table: ModuleType) -> None:
    queries = [number / 40 for number in range(40)]
    results = [result(table, "dynamic", seed, queries) for seed in (1, 2, 3)]
    results += [result(table, "static", seed, queries) for seed in (1, 2)]
    results += [result(table, "static", 3, [value + 0.3 for value in queries])]
    row = summary(table, results)["static"]
    assert row.difference == pytest.approx(0.1)
    assert row.interval[0] == pytest.approx(0)
    assert not row.significant


def test_more_comparisons_ask_for_more(table: ModuleType) -> None:
    # 40 differences of mean 0.1 and standard error 0.044: between 1.96 and 3 of them from 0
    differences = [0.1 + 0.28 * (-1) ** number for number in range(40)]
    results = [
        result(table, "dynamic", 1, [0.0] * 40),
        result(table, "static", 1, differences),
    ]
    assert summary(table, results, comparisons=1)["static"].significant
    assert not summary(table, results, comparisons=14)["static"].significant


def test_only_common_seeds_are_compared(table: ModuleType) -> None:
    results = [
        result(table, "dynamic", 1, [0.1, 0.2]),
        result(table, "static", 1, [0.2, 0.3]),
        result(table, "static", 2, [0.9, 0.9]),
    ]
    row = summary(table, results)["static"]
    assert row.seeds == (1, 2)
    assert row.difference == pytest.approx(0.1)


def test_a_result_is_read_as_it_was_written(table: ModuleType, tmp_path: Path) -> None:
    written = result(table, "dynamic", 2, [0.25, 0.5], lists={"undenoised lists": 7})
    table.write_result(tmp_path, written)
    assert table.read_results(tmp_path) == [written]


def test_results_of_other_settings_are_refused_with_both_values(
    table: ModuleType, tmp_path: Path
) -> None:
    one = result(table, "dynamic", 1, [0.25, 0.5])
    table.write_result(tmp_path, one)
    other = one._replace(variant="static", settings={**one.settings, "list_length": 8})
    table.write_result(tmp_path, other)
    with pytest.raises(DataError, match=r"static-seed1\.json .*\(list_length: 5 / 8\)"):
        table.read_results(tmp_path)


def test_results_on_other_dev_queries_are_refused(table: ModuleType, tmp_path: Path) -> None:
    one = result(table, "dynamic", 1, [0.25, 0.5])
    table.write_result(tmp_path, one)
    table.write_result(tmp_path, one._replace(seed=2, dev_sha256="e" * 64))
    with pytest.raises(DataError, match="other dev queries"):
        table.read_results(tmp_path)


def test_a_result_that_was_cut_short_is_named(table: ModuleType, tmp_path: Path) -> None:
    table.write_result(tmp_path, result(table, "dynamic", 1, [0.25, 0.5]))
    path = tmp_path / "dynamic-seed1.json"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"dynamic-seed1\.json: expected a result"):
        table.read_results(tmp_path)


def test_the_table_has_a_row_for_each_variant_and_says_what_is_missing(table: ModuleType) -> None:
    labels = {"dynamic": "eq. 4", "static": "frozen", "cprd": "with CPRD"}
    text = table.page_text(
        [
            result(table, "start", 1, [0.1, 0.2], steps=0),
            result(table, "dynamic", 1, [0.1, 0.3]),
            result(table, "static", 1, [0.2, 0.3]),
        ],
        labels,
        "dynamic",
    )
    assert text.count("| after the warm-up, before joint training | 1 | 0.1500 |") == 2
    assert text.count("| eq. 4 | 1 | 0.2000 |") == 2
    assert text.count("| frozen | 1 | 0.2500 | +0.0500 (+0.0000 to +0.1000) |") == 2
    assert "43 steps" in text
    assert "2 comparisons" in text
    assert "Not run yet: with CPRD." in text
    assert "Preliminary" in text


def test_three_seeds_of_every_variant_are_not_preliminary(table: ModuleType) -> None:
    results = [
        result(table, variant, seed, [0.1, 0.3])
        for variant in ("dynamic", "static")
        for seed in (1, 2, 3)
    ]
    text = table.page_text(results, {"dynamic": "eq. 4", "static": "frozen"}, "dynamic")
    assert "Preliminary" not in text
    assert "No variant differs significantly from eq. 4" in text


def test_the_page_keeps_what_stands_around_the_table(pages: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = pages.beginning("x.py"), pages.END
    page.write_text(f"before\n\n{begin}\nold\n{end}\n\nafter\n", encoding="utf-8")
    for _ in range(2):
        pages.write_page(page, "x.py", "new")
    written = page.read_text(encoding="utf-8")
    assert written == f"before\n\n{begin}\n\nnew\n\n{end}\n\nafter\n"


def test_a_page_without_markers_is_left_alone(pages: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing of the kind", encoding="utf-8")
    with pytest.raises(UsageError, match="expected the lines"):
        pages.write_page(page, "x.py", "new")
    assert page.read_text(encoding="utf-8") == "nothing of the kind"


@pytest.mark.parametrize("name", ["ablation", "scale"])
def test_the_pages_in_the_repository_have_the_markers(pages: ModuleType, name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert text.index(pages.beginning(f"{name}.py")) < text.index(pages.END)


def test_the_results_in_the_repository_are_of_the_present_variants(
    plan: ModuleType, table: ModuleType
) -> None:
    settings = plan.Settings()
    variants = plan.variants(settings)
    for each in table.read_results(ROOT / "benchmarks" / "results" / "ablation"):
        assert each.variant in (table.START, *variants)
        shared = {key: each.settings[key] for key in vars(settings)}
        assert replace(settings, **shared) == settings
