"""Judging bytes that are offered as a model, before they are all here; by the same rules as those on disk."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gesso.models.content import hash_error, judge, may_be_pickle, remark
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


def test_a_confirmed_size_refuses_a_whole_file_of_another() -> None:
    assert why(wanted(size=len(VAE) + 1), VAE, len(VAE)) == "truncated"
    assert why(wanted(size=len(VAE) - 1), VAE, len(VAE)) == "oversized"


# ── a size that no host confirmed ──


def hint(size: int | None, data: bytes = VAE, **more: Any) -> Any:
    return wanted(data, size=size, size_confirmed=False, **more)


@pytest.mark.parametrize("size", [1, len(VAE) - 1, len(VAE), len(VAE) + 1, 10**12])
def test_a_hint_is_no_verdict_on_a_sound_file(size: int) -> None:
    assert why(hint(size), VAE, len(VAE)) is None
    assert why(hint(size), VAE, None) is None
    assert why(hint(size, **PTH), b"PK\x03\x04" + bytes(100), 104) is None


def test_the_files_own_size_law_holds_and_the_hint_is_told_beside_it() -> None:
    found = judge(hint(len(VAE) + 7), Reader(VAE[:-5]), len(VAE) - 5)
    assert found is not None
    assert found.why == "truncated"
    assert found.message.startswith(f"truncated: {len(VAE) - 5:,} bytes are here of {len(VAE):,} (")
    assert found.message.endswith(
        f"; {len(VAE) - 5:,} bytes, the lock says {len(VAE) + 7:,} (unconfirmed) (12 too few)"
    )
    assert why(hint(len(VAE) - 7), VAE + b"!", len(VAE) + 1) == "oversized"
    assert why(hint(1000), b"\xfe" * 990, 990) == "malformed"


@pytest.mark.parametrize("data", [b"\xfe" * 710, VAE[:710]], ids=["garbage", "head"])
def test_a_stub_of_a_hint_is_called_one(data: bytes) -> None:
    found = judge(hint(7_105_348_188), Reader(data), 710)
    assert found is not None
    assert found.why == "stub"
    assert found.message.startswith("710 bytes, the lock says 7,105,348,188 (unconfirmed)")
    assert found.next_step == "fetch it again"


def test_another_family_is_refused_whatever_the_hint() -> None:
    other = vae_of(16)
    found = judge(hint(5), Reader(other), len(other))
    assert found is not None
    assert (found.why, "(unconfirmed)" in found.message) == ("wrong-family", True)


@pytest.mark.parametrize(
    ("size", "locked", "expected"),
    [(9, 1000, "stub"), (11, 1000, "truncated"), (1001, 1000, "oversized"), (1000, 1000, "wrong-hash"),
     (5, None, "wrong-hash")],
)  # fmt: skip
def test_a_wrong_hash_is_called_what_the_size_makes_it(size: int, locked: int | None, expected: str) -> None:
    found = hash_error(hint(locked), "0" * 64, size)
    assert found.why == expected
    assert f"sha256 {'0' * 64}, the lock says {hint(locked).sha256}" in found.message
    assert ("(unconfirmed)" in found.message) == (expected != "wrong-hash")


def test_a_remark_is_made_of_a_wrong_size_alone() -> None:
    assert remark(hint(5), 5) == remark(hint(None), 5) == remark(hint(5), None) == ""
    assert remark(hint(825_798_408), 787_359_648) == (
        "825,798,408 bytes said by the lock (unconfirmed), the file has 787,359,648: its SHA-256 is right; "
        "`invoke lock` corrects it"
    )


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300) | st.integers(0, len(VAE)).map(lambda n: VAE[:n]),
    st.none() | st.integers(0, 1 << 40),
    st.integers(1, 1 << 40),
)
def test_a_hint_never_makes_wrong_what_would_be_right_without_it(data: bytes, size: int | None, known: int) -> None:
    without = why(hint(None), data, size)
    found = why(hint(known), data, size)
    assert (found is None) == (without is None)
    assert found in {without, "stub"}
