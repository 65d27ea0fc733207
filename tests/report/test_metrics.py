import pytest

from triptych.report.metrics import GLANCE, METRICS, all_metrics, tables, video_metrics

ASPECTS = ["generative", "correctness", "detail", "context", "temporal", "consistency"]


def _keys(found):
    return [metric.key for metric in found]


def test_a_run_on_pictures_has_the_columns_of_pictures_alone():
    keys = ["direct", "unparsed_direct", "cot", "hallucination", "length_direct", "length_cot"]
    assert all_metrics(keys) == list(METRICS)
    assert [table.title for table in tables(all_metrics(keys))] == [""]


def test_columns_of_video_tasks_are_found_by_what_only_they_have():
    keys = ["exact_qa", "contained_qa", "r1_find", "r5_find", "r10_find", "median_rank_find"]
    keys += ["acts", "top5_acts", "unmatched_acts", "unread_correctness", "judge_error_correctness"]
    found = video_metrics(keys)
    assert _keys(found) == [*keys[:6], "acts", "top5_acts", "unmatched_acts"]
    assert [metric.label for metric in found[2:6]] == ["R@1", "R@5", "R@10", "Median rank"]
    assert [metric.higher_is_better for metric in found[5:]] == [False, True, True, False]


def test_aspects_stand_apart_by_who_scored_them_after_their_mean():
    keys = [*ASPECTS, *(f"true_{name}" for name in ASPECTS)]
    scored, judged = tables(video_metrics(keys))[1:]
    assert (_keys(scored.metrics), _keys(judged.metrics)) == (keys[6:], keys[:6])
    assert all((metric.scale, metric.decimals) == (1, 2) for metric in judged.metrics)


def test_a_task_of_another_name_has_its_aspects_under_that_name():
    (metric,) = video_metrics(["true_detail_mine"])
    assert (metric.label, metric.full_label) == ("Detail, mine", "Detail, mine, oracle, 0 to 5")


def test_of_many_columns_a_few_are_told_first_and_the_others_folded():
    keys = [*(f"true_{name}" for name in ASPECTS), "exact_qa", "contained_qa", "r1_find", "r5_find"]
    keys += ["acts", "top5_acts", "length_qa", "length_generic", "kl"]
    glance, *others = tables(video_metrics(keys))
    assert (glance.title, glance.folded) == (GLANCE, False)
    assert _keys(glance.metrics) == ["true_generative", "exact_qa", "r1_find", "acts", "length_generic", "kl"]
    assert glance.labels == ["Five aspects, oracle", "Questions", "R@1", "Actions, top-1", "Length, generic", "KL"]
    assert all(table.folded for table in others)
    assert sorted(key for table in others for key in _keys(table.metrics)) == sorted(keys)


def test_a_few_columns_need_no_glance():
    found = tables(video_metrics(["exact_qa", "length_qa", "kl"]))
    assert [(table.title == GLANCE, table.folded) for table in found] == [(False, False), (False, False)]


def test_without_the_mean_the_first_aspect_stands_for_all():
    found = [metric for metric in video_metrics(["true_detail", "true_context", "r1_a"]) if metric.glance]
    assert _keys(found) == ["true_detail", "r1_a"]


def test_the_judges_accuracy_counts_more_than_that_of_rules():
    judged, rules = (
        {metric.key: metric for metric in video_metrics([*keys, "exact_qa"])}["exact_qa"].glance
        for keys in (["qa", "score_qa"], [])
    )
    assert (judged, rules) == (False, True)


def test_tasks_of_one_kind_are_told_apart_by_name():
    labels = [metric.label for metric in video_metrics(["exact_msvd", "exact_tgif", "r1_a"])]
    assert labels == ["Exact, msvd", "Exact, tgif", "R@1"]


@pytest.mark.parametrize("key", ["length_qa", "kl"])
def test_of_length_and_divergence_neither_way_is_better(key):
    metric = {item.key: item for item in video_metrics(["exact_qa", key])}[key]
    assert (metric.higher_is_better, metric.arrow, metric.percent) == (None, "", False)


def test_the_model_as_a_judge_and_distances_of_tasks_have_columns():
    keys = ["agreement_context", "agreement_decided_context", "decided_context", "first_context", "confidence_context"]
    found = video_metrics([*keys, "clip_score_find", "length_qa", "kl_qa"])
    assert [(metric.key, metric.label) for metric in found] == [
        ("agreement_context", "Agreement"),
        ("agreement_decided_context", "Where decided"),
        ("decided_context", "Decided"),
        ("first_context", "Says the first"),
        ("clip_score_find", "CLIP score, find"),
        ("length_qa", "qa"),
        ("kl_qa", "KL, qa"),
    ]
