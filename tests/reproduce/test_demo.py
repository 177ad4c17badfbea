"""The demo, small: what it leaves, and its page in a real browser."""

import json
import re

import pytest

from browser import chromium
from thanos.config import DemoConfig
from thanos.errors import OutputError
from thanos.report.page import render
from thanos.reproduce.demo import run_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out, said = tmp_path_factory.mktemp("demo") / "out", []
    metrics = run_demo(DemoConfig(seeds=2, epochs=1, jobs=1), out, said.append)
    return out, metrics, said


def test_it_prints_a_table_and_leaves_numbers_with_their_definitions(demo):
    out, metrics, said = demo
    stored = json.loads((out / "metrics.json").read_text())
    assert stored == json.loads(json.dumps(metrics))
    table = "\n".join(said)
    for row, numbers in stored["methods"].items():
        assert row in table
        values = numbers["probe_accuracy"]["values"]
        assert numbers["probe_accuracy"]["n"] == len(values) == 2
        assert numbers["probe_accuracy"]["mean"] == pytest.approx(sum(values) / 2)
        assert numbers["probe_accuracy"]["sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        assert f"{numbers['probe_accuracy']['mean'] * 100:.1f}" in table
    assert stored["methods"]["thanos"]["width"] == stored["methods"]["spread + spread"]["width"] == 256
    assert {"command", "definitions", "versions", "hardware", "settings"} <= set(stored)
    difference = stored["paired_differences"]["thanos - supcon"]["values"]
    probes = [stored["methods"][row]["probe_accuracy"]["values"] for row in ("thanos", "supcon")]
    assert difference == pytest.approx([a - b for a, b in zip(*probes, strict=True)])


def test_again_it_does_nothing_and_other_settings_are_refused(demo):
    out, _, _ = demo
    before = (out / "metrics.json").stat().st_mtime_ns
    said = []
    run_demo(DemoConfig(seeds=2, epochs=1, jobs=1), out, said.append)
    assert "nothing to do" in said[0]
    assert (out / "metrics.json").stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="2 seeds and 1 epochs, not 1 and 1"):
        run_demo(DemoConfig(seeds=1, epochs=1), out, said.append)


def test_the_page_is_one_file_without_outside_references(demo):
    page = (demo[0] / "report.html").read_text()
    references = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert references
    assert all(reference.startswith("data:") for reference in references)
    assert "@import" not in page
    assert "url(" not in page


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_a_desktop_and_a_phone(demo, tmp_path, width):
    """In a frame of that width nothing but the boxes made to scroll is wider than the page, and all pictures load."""
    probe = tmp_path / "probe.html"
    probe.write_text(f"""<iframe id="f" src="{(demo[0] / "report.html").as_uri()}" style="width:{width}px;height:900px">
    </iframe><pre id="result"></pre><script>f.onload = () => {{
      const d = f.contentDocument, broken = [...d.images].filter(i => !i.complete || !i.naturalWidth).length;
      const scrolls = [...d.querySelectorAll(".scroll *, pre, pre *")];
      const wide = [...d.body.querySelectorAll("*")].filter(
        e => !scrolls.includes(e) && e.getBoundingClientRect().right > d.documentElement.clientWidth + 1);
      result.textContent = `broken=${{broken}} wide=${{wide.length}} images=${{d.images.length}} ` +
        `scroll=${{d.documentElement.scrollWidth <= d.documentElement.clientWidth}}`;
    }};</script>""")
    dump = chromium("--allow-file-access-from-files", "--dump-dom", probe.as_uri(), folder=tmp_path / "profile")
    found = re.search(r'id="result">([^<]*)<', dump.stdout).group(1)
    assert re.fullmatch(r"broken=0 wide=0 images=\d{3} scroll=true", found), found


def test_names_from_data_are_shown_not_executed():
    hostile = "<script>alert(1)</script>"
    page = render(
        "demo.html",
        title="thanos",
        metrics={
            "methods": {
                name: {
                    "what": hostile,
                    **{
                        key: {"mean": 0.5, "sd": None, "n": 1}
                        for key in ("probe_accuracy", "neighbour_accuracy", "within_class_spread")
                    },
                }
                for name in ("raw pixels", "supcon", "spread", "cauto", "thanos", "spread + spread", hostile)
            },
            "paired_differences": {
                key: {"mean": 0.0}
                for key in ("spread - supcon", "thanos - supcon", "thanos - control (what the autoencoder gives)")
            },
            "test_images": 1,
            "command": hostile,
            "hardware": hostile,
            "seconds": 1,
            "versions": {},
        },
        maps="data:,",
        curves={"loss": "data:,"},
        neighbours={hostile: [{"name": hostile, "picture": "data:,", "nearest": []}]},
    )
    assert hostile not in page
    assert page.count("&lt;script&gt;alert(1)") >= 4
