import subprocess
import sys

from triptych.world.randomness import pick, rng_for


def test_a_generator_depends_on_every_key_and_on_nothing_else():
    first = rng_for(0, "sft", 7, "scene").random(4).tolist()
    assert rng_for(0, "sft", 7, "scene").random(4).tolist() == first
    others = [
        rng_for(*keys).random() for keys in ((1, "sft", 7, "scene"), (0, "sft", 8, "scene"), (0, "sft", 7, "noise"))
    ]
    assert len({first[0], *others}) == 4


def test_keys_are_kept_apart():
    assert rng_for("ab", "c").random() != rng_for("a", "bc").random()


def test_another_process_draws_the_same():
    code = "from triptych.world.randomness import rng_for; print(repr(rng_for(3, 'test', 1).random()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == repr(rng_for(3, "test", 1).random())


def test_pick_reaches_every_item_equally_often():
    rng = rng_for("pick")
    drawn = [pick(rng, "abc") for _ in range(3000)]
    # Standard error of a count: sqrt(3000 * 1/3 * 2/3) = 26; five of them.
    assert all(abs(drawn.count(item) - 1000) < 130 for item in "abc")
