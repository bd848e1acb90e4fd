"""``sandbox images``: the list, and the answer of a check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sandbox.cli import main
from sandbox.image import build as building
from sandbox.image.build import IMAGES, Built, manifests


def test_the_list_has_every_image_with_its_lesson(capsys):
    assert main(["images"]) == 0
    lines = capsys.readouterr().out.splitlines()
    known = manifests()
    assert [line.split()[:2] for line in lines] == [[each.name, each.kind] for each in known]
    assert all(line.endswith(each.title) for line, each in zip(lines, known, strict=True))
    columns = {line.index(each.title) for line, each in zip(lines, known, strict=True)}
    assert len(columns) == 1, "a table"
    assert main(["images", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [each.name for each in known]
    assert {"name", "kind", "title", "switch"} <= set(rows[0])


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Built]:
    """What the build answers, without building."""
    answer = [Built("good", Path("good.elf"), True), Built("bad", Path("bad.elf"), False)]
    monkeypatch.setattr(building, "build", lambda write, folder=IMAGES: list(answer))
    return answer


def test_a_check_that_finds_a_difference_ends_with_1_and_names_it(done, capsys):
    assert main(["images", "--check"]) == 1
    out = capsys.readouterr().out
    assert "differs  bad\n" in out
    assert "good" not in out
    assert "1 of 2" in out
    assert main(["images", "--check", "--json"]) == 1
    assert [row["same"] for row in json.loads(capsys.readouterr().out)] == [True, False]


def test_a_check_that_finds_none_ends_with_0(done, monkeypatch, capsys):
    monkeypatch.setattr(building, "build", lambda write, folder=IMAGES: done[:1])
    assert main(["images", "--check"]) == 0
    assert "1 of 1" in capsys.readouterr().out


def test_a_build_is_no_failure_when_something_changed(done, capsys):
    assert main(["images", "--build"]) == 0
    assert "2 images built, 1 of them changed" in capsys.readouterr().out


def test_build_and_check_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["images", "--build", "--check"])
    assert leaving.value.code == 2


OWN = """
[image]
title = "mine"
source = "mine.c"
file = "mine.elf"
[expect]
status = 7
"""


def test_a_folder_of_ones_own_is_built_listed_and_checked(tmp_path, capsys):
    """Sources beside their manifests; the collection and the kernel are not touched."""
    place = tmp_path / "guests" / "mine"
    place.mkdir(parents=True)
    (place / "manifest.toml").write_text(OWN)
    (place / "mine.c").write_text('#include "user.h"\nint main(void) { return 7; }\n')
    folder = str(tmp_path / "guests")
    assert main(["test", folder]) == 2
    assert f"sandbox images --build {place}" in capsys.readouterr().err
    assert main(["images", folder, "--build"]) == 0
    assert capsys.readouterr().out == "1 image built, 1 of them changed\n"
    assert main(["images", folder, "--check"]) == 0
    assert main(["images", str(place)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["mine", "program", "mine"]
    assert main(["run", str(place), "--status"]) == 7


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_images_is_told(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["images", folder]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"sandbox: {folder}: no manifest there"
