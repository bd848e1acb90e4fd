"""The pytest plugin, in test runs of its own: what is collected, what a failure prints, what fixtures give."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

import sandbox

pytest_plugins = ("pytester",)
ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "images"
PLUGIN = ("-p", "sandbox.pytest_plugin", "-p", "no:cacheprovider")


@pytest.fixture(scope="module", autouse=True)
def everything_imported() -> None:
    """pytester forgets what a run in this process was the first to import, and the next one imports it once more.

    What had it already keeps the first copy: ``isinstance`` then fails between the two, and the engine's pointers lead
    into the copy that is gone.  Which test meets that is a matter of their order, and so of the workers' load.
    """
    for each in pkgutil.walk_packages(sandbox.__path__, "sandbox."):
        if "__main__" not in each.name and not each.name.startswith("sandbox.campaign."):  # that needs dask
            importlib.import_module(each.name)


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A foreign project with two images of ours, and a manifest that is not ours at all."""
    for name in ("cow-fork", "demand-zero"):
        shutil.copytree(IMAGES / name, pytester.path / "guests" / name)
    other = pytester.mkdir("other")
    (other / "manifest.toml").write_text("[package]\nname = 'foreign'\n")
    return pytester


def opt_in(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\nsandbox_images = guests\n")


def test_nothing_is_collected_that_was_not_asked_for(project: pytest.Pytester) -> None:
    project.makepyfile("def test_own(): pass")
    project.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)


def test_manifests_of_the_folder_are_tests(project: pytest.Pytester) -> None:
    opt_in(project)
    done = project.runpytest_inprocess(*PLUGIN, "-v", "guests", "other")
    done.assert_outcomes(passed=8)
    done.stdout.fnmatch_lines(["*cow-fork/manifest.toml::pae-whole PASSED*", "*::legacy-break-no-cow PASSED*"])


def test_the_same_with_workers(project: pytest.Pytester) -> None:
    """Each test by itself, wherever it runs: a broken one has its limits from a whole run in its own process."""
    opt_in(project)
    project.runpytest_inprocess(*PLUGIN, "-n", "2").assert_outcomes(passed=8)


def test_one_test_alone(project: pytest.Pytester) -> None:
    opt_in(project)
    project.runpytest_inprocess(*PLUGIN, "guests/cow-fork/manifest.toml::pae-break-no-cow").assert_outcomes(passed=1)


def edit(project: pytest.Pytester, name: str, old: str, new: str) -> None:
    path = project.path / "guests" / name / "manifest.toml"
    assert re.search(old, path.read_text()), old
    path.write_text(re.sub(old, new, path.read_text(), count=1))


def test_a_failure_shows_explanation_disassembly_and_walk(project: pytest.Pytester) -> None:
    opt_in(project)
    edit(project, "cow-fork", r'resolution = "cow-copy"', 'resolution = "zero-page"')
    done = project.runpytest_inprocess(*PLUGIN, "guests/cow-fork/manifest.toml::pae-whole")
    done.assert_outcomes(failed=1)
    wanted = [
        "*was not seen*",
        "nearest: fault *",
        "fault *: task *",
        "the walk that failed",
        "*PTE *",
        "the code there",
        "*->*mov *",
    ]
    done.stdout.fnmatch_lines(wanted)
    assert "Traceback" not in done.stdout.str()


def test_a_failure_without_a_fault(project: pytest.Pytester) -> None:
    """Of a ROM: there is still the code at its end, and the walk of that."""
    opt_in(project)
    shutil.copytree(IMAGES / "rom-gate-types", project.path / "guests" / "rom-gate-types")
    path = project.path / "guests" / "rom-gate-types" / "manifest.toml"
    path.write_text(path.read_text().replace("[expect]", "[expect]\nsignal = 'SIGSEGV'", 1))
    done = project.runpytest_inprocess(*PLUGIN, "guests/rom-gate-types", "-k", "whole")
    done.stdout.fnmatch_lines(["*expected SIGSEGV*", "*->*", "the walk of this address"])


def test_a_broken_manifest_is_one_line(project: pytest.Pytester) -> None:
    opt_in(project)
    edit(project, "cow-fork", r"kind = ", "knid = ")
    done = project.runpytest_inprocess(*PLUGIN, "guests/cow-fork")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*image.knid: unknown key*"])
    assert "Traceback" not in done.stdout.str()


def test_marked_tests(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.sandbox_image("guests/cow-fork", "images/demand-zero", broken=False)
        def test_it(verdict):
            assert verdict.result.status == 0

        def test_without(verdict):
            pass
        """
    )
    done = project.runpytest_inprocess(*PLUGIN, "--strict-markers")
    done.assert_outcomes(passed=4, errors=1)
    done.stdout.fnmatch_lines(["*mark the test with*"])


def test_fixtures(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        def test_machine(machine):
            guest = machine("images/cow-fork", paging="legacy")
            assert guest.run("child").pid == 4

        def test_kernel(kernel):
            assert kernel(ram="16M").walk(0xC0000000).physical == 0

        def test_assemble(assemble, run_image):
            image = assemble('.include "linux.inc"\\n.globl _start\\n_start: sys exit, 7\\n')
            assert run_image(image).status == 7

        def test_run_image(run_image):
            assert run_image("guests/cow-fork").passed and run_image("images/cow-fork", cpus=2).passed

        def test_cpu_vector(cpu_vector):
            assert cpu_vector("inc eax", {"eax": 41}).registers["eax"] == 42
        """
    )
    project.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=5)


def test_fixtures_in_one_run_after_another(project: pytest.Pytester) -> None:
    """Each with the modules of the first: another copy's classes would be others."""
    project.makepyfile(
        """
        def test_machine(machine):
            assert machine("images/cow-fork", paging="legacy").run("child").pid == 4
        """
    )
    before = {name: module for name, module in sys.modules.items() if name.startswith("sandbox.")}
    for _ in range(2):
        project.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)
    assert {name: module for name, module in sys.modules.items() if name.startswith("sandbox.")} == before


def test_it_agrees_with_the_command(project: pytest.Pytester) -> None:
    """Passed and failed alike: of two images, one of which expects another status."""
    opt_in(project)
    edit(project, "demand-zero", r"status = 0", "status = 9")
    done = project.runpytest_inprocess(*PLUGIN, "-v", "guests")
    there = re.findall(r"guests/(\S+)/manifest.toml::(\S+) (PASSED|FAILED)", done.stdout.str())
    command = [sys.executable, "-m", "sandbox", "test", "guests"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=project.path, env=_environment(), timeout=100)
    rows = re.findall(r"^(pass|FAIL)  (\S+) +(\S+) +(whole|--break \S+)", told.stdout, re.M)
    ours = [(name, f"{paging}-{how.removeprefix('--').replace(' ', '-')}", word) for word, name, paging, how in rows]
    assert len(ours) == 8
    assert sorted(ours) == sorted((name, test, "pass" if word == "PASSED" else "FAIL") for name, test, word in there)


@pytest.mark.campaign
def test_it_agrees_with_the_command_on_every_image(pytester: pytest.Pytester) -> None:
    (pytester.path / "guests").symlink_to(IMAGES)
    pytester.makeini("[pytest]\nsandbox_images = guests\n")
    done = pytester.runpytest_subprocess(*PLUGIN, "-n", "2", "--junitxml", "found.xml", "guests")
    assert done.ret in (0, 1), done.stderr.str()
    cases = ElementTree.parse(pytester.path / "found.xml").iter("testcase")
    here = {
        (str(each.get("classname")).split(".")[1], str(each.get("name"))): each.find("failure") is None
        for each in cases
    }
    command = [sys.executable, "-m", "sandbox", "test", "-j", "2", "--json", "guests"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=pytester.path, env=_environment(), timeout=3000)
    there = {
        (each["image"], f"{each['paging']}-" + (f"break-{each['switch']}" if each["switch"] else "whole")): each[
            "passed"
        ]
        for each in json.loads(told.stdout)
    }
    assert len(there) > 400
    assert here == there


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


def test_the_entry_point_is_found_and_loads_nothing(project: pytest.Pytester) -> None:
    """As installed: by the entry point that the project declares; the sandbox itself stays unread until it is used."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    info = project.mkdir("installed") / "sandboxplugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sandboxplugin\nVersion: 1\n")
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[pytest11]\n{lines}\n")
    project.makepyfile(
        """
        import sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.hasplugin("sandbox.pytest_plugin")
            assert not {"sandbox.api", "sandbox.kernel", "sandbox.engine", "sandbox.image"} & set(sys.modules)
        """
    )
    environment = {**_environment(), "PYTHONPATH": f"{info.parent}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        capture_output=True, text=True, cwd=project.path, env=environment, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
