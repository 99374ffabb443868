"""What `make demo` types, on a machine that cannot boot a host."""

from lab import demo
from sipdeploy.diagnostics import Diagnostic


def test_the_example_is_completed_linted_and_rendered(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIPDEPLOY_INVENTORY", raising=False)
    monkeypatch.setattr(demo, "why_not", lambda: "no root")
    demo.demo()
    assert "no call was proven" in capfd.readouterr().out
    assert list((tmp_path / "rendered-example" / "rendered").iterdir())


def test_the_last_proof_has_sound_where_the_extra_is_installed(monkeypatch):
    monkeypatch.setattr(demo.media, "missing", lambda: None)
    assert demo.last_level() == ("full", "")
    problem = Diagnostic("SD921", "calls with sound need the extra `media` of sipdeploy")
    monkeypatch.setattr(demo.media, "missing", lambda: problem)
    level, reason = demo.last_level()
    assert level == "quick"
    assert "the extra `media`" in reason
