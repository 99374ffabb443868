"""The catalogue of Asterisk is made from its sources: names, types, values, versions."""

import json
import subprocess

from lab import catalogue_asterisk
from sipdeploy.lint.stack import judging
from sipdeploy.lint.stack.asterisk import catalogue

SOURCE = """\
/*** DOCUMENTATION
<configInfo name="res_pjsip"><configFile name="pjsip.conf"><configObject name="endpoint">
<configOption name="type"/>
<configOption name="timers" default="yes"><since><version>12.0.0</version></since>
<enumlist><enum name="required"/><enum name="yes"/></enumlist></configOption>
NEW<configOption name="plain"/>
</configObject></configFile></configInfo>
 ***/
static int timers_handler(const struct aco_option *opt, struct ast_variable *var, void *obj)
{
	if (ast_true(var->value) || !strcasecmp(var->value, "always")) {
		return 0;
	}
}
void load(void)
{
	ast_sorcery_object_field_register_custom(s, "endpoint", "timers", "yes", timers_handler, a, 0);
	ast_sorcery_object_field_register(s, "endpoint", "hidden", "no", OPT_BOOL_T, 1, FLD(x));
	ast_sorcery_object_field_register(s, "endpoint", "port", "0", OPT_UINT_T, PARSE_IN_RANGE,
		FLD(x), 0, 65535);
}
"""
NEW = '<configOption name="fresh"><since><version>20.3.0</version></since></configOption>'


def git(folder, *argv):
    name = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *name, *argv], cwd=folder, check=True, capture_output=True)


def test_the_table_of_a_small_source(tmp_path):
    git(tmp_path, "init", "-q", "-b", "16")
    for folder in ("res", "apps", "funcs", "main", "pbx", "channels", "addons"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "empty.c").write_text("")
    (tmp_path / "main/codec_builtin.c").write_text('.name = "ulaw"')
    app = '/*** DOCUMENTATION\n<application name="Dial"></application>\n ***/\n'
    (tmp_path / "apps/app_dial.c").write_text(app)
    for version in range(16, 24):
        if version > 16:
            git(tmp_path, "checkout", "-q", "-b", str(version))
        text = SOURCE.replace("NEW", NEW if version >= 20 else "")
        (tmp_path / "res/res_pjsip.c").write_text(text + f"/* {version} */")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", str(version))
    catalogue_asterisk.write(tmp_path / ".git", tmp_path / "out.json")
    table = json.loads((tmp_path / "out.json").read_text())
    assert table["applications"] == {"Dial": {}}
    assert table["codecs"] == ["ulaw"]
    assert table["pjsip"] == {
        "endpoint": {
            "fresh": {"in": [20, 21, 22, 23], "since": ["20.3.0"], "type": "text"},
            "hidden": {"default": "no", "type": "bool"},
            "plain": {"type": "text"},
            "port": {"default": "0", "range": [0, 65535], "type": "unsigned"},
            "timers": {
                "default": "yes",
                "since": ["12.0.0"],
                "type": "enum",
                "values": ["always", "no", "required", "yes"],
            },
        }
    }


def test_lint_accepts_the_versions_of_the_catalogue():
    catalogued = range(catalogue.FIRST, catalogue.LAST + 1)
    assert judging.VERSIONS["asterisk"] == tuple(map(str, catalogued))


def test_versions_of_an_option():
    fresh = {"in": [20, 21, 22, 23], "since": ["20.3.0", "21.1.0"]}
    assert catalogue.missing_in(fresh, None) == ""
    assert catalogue.missing_in(fresh, (20,)) == ""
    assert catalogue.missing_in(fresh, (20, 2)) == "it came with Asterisk 20.3.0"
    assert catalogue.missing_in(fresh, (20, 3, 1)) == ""
    assert catalogue.missing_in(fresh, (18, 20)) == "it came with Asterisk 20"
    assert catalogue.missing_in(fresh, (22, 0)) == ""
    assert catalogue.missing_in({"in": [16, 17]}, (18,)) == "Asterisk 18 removed it"
    assert catalogue.missing_in({}, (18,)) == ""
    assert catalogue.missing_in(fresh, (99,)) == ""
