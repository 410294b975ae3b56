"""Judging bytes that are offered as a model, before they are all here; by the same rules as those on disk."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.models.content import judge, may_be_pickle
from gesso.models.faults import ContentWhy, SourceError
from gesso.models.identify.header import FIRST

from .conftest import Reader, head_of
from .making import SDXL, VAE, vae_of, wanted


def why(model: Any, data: bytes, size: int | None) -> str | None:
    found = judge(model, Reader(data, size), size)
    assert found is None or (found.message and found.next_step)
    return found.why if found else None


def test_right_bytes_have_nothing_wrong() -> None:
    assert why(wanted(), VAE, len(VAE)) is None
    assert why(wanted(size=None), VAE, len(VAE)) is None
    head, size = head_of(SDXL)
    assert why(wanted(head, "checkpoints/a.safetensors", kind="checkpoint", size=size), head, size) is None


def test_a_remote_file_costs_one_read_of_its_beginning() -> None:
    head, size = head_of({**SDXL, "model.diffusion_model.middle_block.0.weight": [3_500_000_000]})
    reader = Reader(head, size)
    model = wanted(head, "checkpoints/a.safetensors", kind="checkpoint", size=size)
    assert judge(model, reader, size) is None
    assert reader.asked == [FIRST]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"<html>", "html"),
        (b'{"error": 1}', "json"),
        (b"version https://git-lfs.github.com/spec/v1", "lfs-pointer"),
        (b"\x80\x02}q\x00(X\x05\x00\x00\x00", "pickle"),
    ],
)
def test_what_bytes_evidently_are_comes_before_their_number(data: bytes, expected: str) -> None:
    for size in (len(data), len(VAE), 10 * len(VAE), None):
        assert why(wanted(), data, size) == expected
        assert why(wanted(size=None), data, size) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.0099, "stub"), (0.0101, "truncated"), (0.99, "truncated")])
def test_below_a_hundredth_it_is_a_stub(share: float, expected: str) -> None:
    size = int(1_000_000 * share)
    assert why(wanted(size=1_000_000), b"\xfe" * size, size) == expected


def test_a_size_names_both_numbers() -> None:
    found = judge(wanted(), Reader(VAE, len(VAE) + 1), len(VAE) + 1)
    assert found is not None
    assert (found.why, f"{len(VAE) + 1:,} bytes, the lock says {len(VAE):,}") == ("oversized", found.message)


def test_a_vae_of_flux_is_refused_naming_both_numbers_and_the_manifest() -> None:
    found = judge(wanted(vae_of(16)), Reader(vae_of(16)), len(vae_of(16)))
    assert found is not None
    assert found.why == "wrong-family"
    assert "4 latent channels, the file has 16" in found.message
    assert "manifest" in found.next_step


def test_where_nobody_knows_the_size_a_whole_header_still_tells() -> None:
    other, model = vae_of(16), wanted(size=None)
    assert why(model, VAE, None) is None
    assert why(model, other, None) == "wrong-family"
    assert why(model, b"\xfe" * 99, None) == "malformed"


def test_where_nobody_knows_the_size_a_part_is_no_fault_yet() -> None:
    assert judge(wanted(size=None), lambda *_: VAE[:200], None) is None
    assert judge(wanted(size=None), lambda *_: b"", None) is None


def test_where_only_the_lock_knows_the_size_it_counts() -> None:
    model = wanted(size=len(VAE))
    assert why(model, VAE, None) is None
    assert judge(wanted(size=len(VAE) + 1), Reader(VAE, len(VAE) + 1), None) is not None


def test_a_fault_of_the_source_goes_through() -> None:
    def read(*_: int) -> bytes:
        raise SourceError("cut-off", "it ended")

    with pytest.raises(SourceError, match="it ended"):
        judge(wanted(), read, len(VAE))


PTH: dict[str, Any] = {
    "name": "upscale_models/a.pth",
    "kind": "upscale_model",
    "family": "any",
    "allow_pickle": "there is no other",
}


def test_an_accepted_pickle_is_judged_by_size_alone_and_impostors_are_not_accepted() -> None:
    pickle = b"PK\x03\x04" + bytes(100)
    model = wanted(pickle, **PTH)
    assert may_be_pickle(model)
    assert not may_be_pickle(wanted())
    assert why(model, pickle, len(pickle)) is None
    assert why(model, pickle, len(pickle) - 1) == "truncated"
    assert why(model, b"<html>", len(pickle)) == "html"


@pytest.mark.parametrize("suffix", [".PTH", ".Ckpt", ".pt"])
def test_the_case_of_a_suffix_makes_no_difference(suffix: str) -> None:
    assert may_be_pickle(wanted(**{**PTH, "name": f"upscale_models/a{suffix}"}))


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300) | st.integers(0, len(VAE)).map(lambda n: VAE[:n]),
    st.none() | st.integers(0, 1 << 40),
    st.none() | st.integers(1, 1 << 40),
)
def test_whatever_comes_there_is_one_kind_of_answer(data: bytes, size: int | None, known: int | None) -> None:
    found = why(wanted(b"some other bytes", size=known), data, size)
    assert found is None or found in get_args(ContentWhy)
    if size is not None and known is not None and size != known:
        assert found is not None
