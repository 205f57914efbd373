"""The hash in place of a generator: uniform, independent, and a function of the place alone."""

import hashlib
import itertools

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from evo_merge.methods.noise import EntryNoise

CPU = torch.device("cpu")
N = 100_000


def draw(seed: int = 1, source: str = "ja", tensor: str = "model.norm.weight", n: int = N) -> Tensor:
    return EntryNoise(seed, source, tensor)(0, n, CPU)


@pytest.mark.parametrize("seed", [0, 1, 2**31, -5])
def test_noise_is_uniform(seed: int) -> None:
    counts = torch.histc(draw(seed), bins=256, min=0.0, max=1.0)
    statistic = float(((counts - N / 256) ** 2 / (N / 256)).sum())
    # The seeds are fixed, so nothing is left to chance; a fair draw is outside these limits twice in 10000.
    assert chi2.ppf(1e-4, 255) < statistic < chi2.ppf(1 - 1e-4, 255)


def test_neighbouring_entries_are_independent() -> None:
    noise = draw()
    pairs = torch.histogramdd(torch.stack([noise[:-1], noise[1:]], dim=1), bins=[16, 16], range=[0.0, 1.0, 0.0, 1.0]).hist
    expected = (N - 1) / 256
    assert float(((pairs - expected) ** 2 / expected).sum()) < chi2.ppf(1 - 1e-4, 255)


def test_noise_stays_below_one() -> None:
    noise = draw(n=3_000_000)
    assert float(noise.min()) >= 0.0
    assert float(noise.max()) < 1.0
    assert float(noise.max()) > 1.0 - 1e-5
    assert noise.dtype == torch.float32


def test_sources_tensors_and_seeds_are_independent_of_each_other() -> None:
    rows = [draw(), draw(seed=2), draw(source="math"), draw(tensor="lm_head.weight"), draw(source="ja\0", tensor="x")]
    for first, second in itertools.combinations(rows, 2):
        correlation = float(torch.corrcoef(torch.stack([first, second]))[0, 1])
        assert abs(correlation) < 5 / N**0.5  # five standard errors of independent rows
        both_low = float(((first < 0.1) & (second < 0.1)).double().mean())
        assert both_low == pytest.approx(0.01, abs=5 * (0.01 / N) ** 0.5)


def test_the_same_place_has_the_same_number_in_any_chunk() -> None:
    noise, whole = EntryNoise(3, "a", "b"), EntryNoise(3, "a", "b")(0, 1000, CPU)
    for size in (1, 7, 333, 1000):
        chunks = [noise(start, min(size, 1000 - start), CPU) for start in range(0, 1000, size)]
        assert torch.equal(torch.cat(chunks), whole)
    assert noise(5, 0, CPU).shape == (0,)


def test_the_numbers_are_those_of_the_published_mixer() -> None:
    # lowbias32 in plain Python integers, on the keys that blake2b gives.
    def mix(x: int) -> int:
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        return x ^ (x >> 16)

    digest = hashlib.blake2b(b"7\0ja\0lm_head.weight", digest_size=8).digest()
    keys = [int.from_bytes(digest[i : i + 4], "little") for i in (0, 4)]
    places = [0, 1, 2, 1000, 2**31 - 1, 2**31, 2**32 - 1]
    expected = [(mix(mix(place ^ keys[0]) ^ keys[1]) >> 8) * 2.0**-24 for place in places]
    noise = EntryNoise(7, "ja", "lm_head.weight")
    assert [float(noise(place, 1, CPU)) for place in places] == expected


def test_recorded_numbers_stay() -> None:
    """Recipes written by earlier versions mean these masks."""
    recorded = [0.2064608931541443, 0.4823381304740906, 0.18622124195098877, 0.4634680151939392]
    assert EntryNoise(7, "ja", "lm_head.weight")(0, 4, CPU).tolist() == recorded
