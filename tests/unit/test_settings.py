"""Settings come from the environment over a file over defaults; every fault is named, and all at once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.ledger import without_privileges
from worker.errors import BadSetting
from worker.runtime import settings_file
from worker.runtime.configuration import names
from worker.settings import LONGEST_SOCKET_PATH, Settings

#: `worker`, on a machine whose service has its settings in the file that is named first.
PROGRAM = """
import sys
from pathlib import Path
from worker.runtime import settings_file
settings_file.SYSTEM_FILE = Path(sys.argv.pop(1))
from worker.cli.main import main
main()
"""


def ask(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `worker settings` in `folder` with these SCREENING_ variables and no others."""
    return call(folder, folder / "etc" / "worker.env", "settings", *arguments, **environment)


def call(folder: Path, service: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `worker` in `folder` where the service's settings lie in `service`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SCREENING_")}
    clean |= {f"SCREENING_{name}": value for name, value in environment.items()}
    clean["PYTHONPATH"] = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", PROGRAM, str(service), *words]
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


def in_force(folder: Path, **environment: str) -> dict[str, Any]:
    done = ask(folder, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


SERVICE = """# the service's
SCREENING_HOME="{home}"
SCREENING_LEASE_S=77
; a comment
SCREENING_NIGHTLY="/srv/archive \\
--between 22:00-06:00"
AWS_ENDPOINT_URL=http://store
"""


def test_who_asks_beside_a_service_sees_the_settings_of_the_service(tmp_path: Path) -> None:
    service = tmp_path / "etc" / "worker.env"
    service.parent.mkdir()
    service.write_text(SERVICE.format(home=tmp_path / "state"))

    def found(**environment: str) -> dict[str, tuple[str, str]]:
        done = ask(tmp_path, "--json", **environment)
        assert done.returncode == 0, done.stderr
        return {row["name"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}

    in_place = found()
    assert in_place["home"] == (str(tmp_path / "state"), str(service))
    assert in_place["lease_s"] == ("77.0", str(service))
    assert in_place["nightly"][0] == "/srv/archive --between 22:00-06:00"
    assert found(LEASE_S="99")["lease_s"] == ("99.0", "SCREENING_LEASE_S"), "the environment goes first"
    assert found(SETTINGS="none")["lease_s"] == ("30.0", "default")
    (tmp_path / "screening.toml").write_text("[screening]\nlease_s = 50\n")
    assert found()["lease_s"] == ("50.0", "screening.toml"), "a file of one's own goes before the service's"
    assert found()["home"][0] == str(tmp_path / ".screening"), "one file counts, never two"
    assert found(SETTINGS=str(service))["lease_s"] == ("77.0", str(service))


def test_a_service_whose_file_names_no_state_folder_has_the_one_of_its_unit(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "worker.env").write_text("SCREENING_PROVIDER=cpu\n")
    assert in_force(tmp_path)["home"]["value"] == "/var/lib/chest-screening"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SCREENING_HOMME=x\n", ["SCREENING_HOMME", "did you mean SCREENING_HOME?"]),
        ("SCREENING_LEASE_S=soon\n", ["SCREENING_LEASE_S", "soon"]),
        ("SCREENING_HOME='x\n", ["worker.env", "No closing quotation"]),
        ("home: x\n", ["worker.env", "no line NAME=value"]),
    ],
)
def test_faults_of_the_services_file_are_named(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "worker.env").write_text(text)
    done = ask(tmp_path)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1), done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[screening]\nlease_s = true\n", "SCREENING_LEASE_S: it must be a number, not True"),
        (b"[screening]\nlease_s = [1]\n", "SCREENING_LEASE_S: it must be a number, not [1]"),
        (b"[screening]\nSCREENING_LEASE_S = 50\n", "there is no setting SCREENING_LEASE_S: did you mean lease_s?"),
        (b"[screening]\nLEASE_S = 50\n", "there is no setting LEASE_S: did you mean lease_s?"),
        ("[screening]\nlease_s = 50\n".encode("utf-16"), "is not text in UTF-8: save it as UTF-8"),
        (b"[screening]\nhome = '" + b"h" * 300 + b"'\n", "SCREENING_HOME: a name in it is longer than 255 bytes"),
    ],
)
def test_faults_of_a_file_of_ones_own_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "screening.toml").write_bytes(content)
    done = ask(tmp_path)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1), done.stderr
    assert words in done.stderr


def test_a_file_with_a_byte_order_mark_and_a_home_of_the_account(tmp_path: Path) -> None:
    (tmp_path / "screening.toml").write_bytes(b"\xef\xbb\xbf[screening]\r\nlease_s = 50\r\nhome = '~/state'\r\n")
    found = in_force(tmp_path)
    assert found["lease_s"]["value"] == "50.0"
    assert found["home"]["value"] == str(Path.home() / "state")


def test_settings_of_a_service_that_may_not_be_read_are_never_passed_over(tmp_path: Path) -> None:
    service = tmp_path / "etc" / "worker.env"
    service.parent.mkdir()
    service.write_text("SCREENING_PROVIDER=cpu\n")
    service.parent.chmod(0o700)
    with without_privileges(), pytest.MonkeyPatch.context() as patched:
        patched.delenv("SCREENING_SETTINGS")
        patched.setattr(settings_file, "SYSTEM_FILE", service)
        if os.access(service.parent, os.X_OK, effective_ids=True):
            pytest.skip("this account may read everything")
        with pytest.raises(BadSetting, match="sudo -u screening"):
            settings_file.read()


@pytest.mark.slow
def test_screen_and_check_say_first_what_they_work_on_and_no_password(tmp_path: Path) -> None:
    service = tmp_path / "etc" / "worker.env"
    service.parent.mkdir()
    service.write_text(f"SCREENING_HOME={tmp_path / 'state'}\nSCREENING_BROKER=redis://:s3cret@localhost:1/0\n")
    done = call(tmp_path, service, "check", MIN_FREE_MIB="1")
    assert done.stdout.splitlines()[:3] == [
        f"settings  {service}; environment: SCREENING_MIN_FREE_MIB",
        f"database  SQLite, {tmp_path / 'state' / 'screening.sqlite'}",
        "broker    redis://:***@localhost:1/0",
    ]
    assert "s3cret" not in done.stdout + done.stderr
    assert json.loads(call(tmp_path, service, "check", "--json").stdout)[0]["what"] == "database"


def test_the_places_for_a_shell_are_quoted(tmp_path: Path) -> None:
    done = ask(tmp_path, "--shell", HOME=str(tmp_path / "a b'c"), DATABASE="postgresql://me:s3cret@db/x")
    script = f'{done.stdout}\nprintf "%s\\n" "$home" "$database" "$store"'
    read = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    home = str(tmp_path / "a b'c")
    assert read == [home, "postgresql://me:s3cret@db/x", f"{home}/store"]


def test_defaults_are_told_as_such(tmp_path: Path) -> None:
    found = in_force(tmp_path)
    assert set(found) == {field.name for field in attrs.fields(Settings)}
    assert {row["origin"] for row in found.values()} == {"default"}
    assert found["home"]["value"] == str(tmp_path / ".screening")
    assert all(row["meaning"] for row in found.values())


def test_the_environment_wins_over_the_file_and_both_are_named(tmp_path: Path) -> None:
    (tmp_path / "screening.toml").write_text('[screening]\nlease_s = 50\ninbox_mode = "copy"\nhome = "state"\n')
    found = in_force(tmp_path, LEASE_S="40")
    assert (found["lease_s"]["value"], found["lease_s"]["origin"]) == ("40.0", "SCREENING_LEASE_S")
    assert (found["inbox_mode"]["value"], found["inbox_mode"]["origin"]) == ("copy", "screening.toml")
    assert found["home"]["value"] == str(tmp_path / "state")
    assert found["heartbeat_s"]["origin"] == "default"


def test_a_settings_file_may_lie_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "etc"
    elsewhere.mkdir()
    (elsewhere / "mine.toml").write_text("[screening]\nmessage_size = 3\n")
    found = in_force(tmp_path, SETTINGS=str(elsewhere / "mine.toml"))
    assert (found["message_size"]["value"], found["message_size"]["origin"]) == ("3", str(elsewhere / "mine.toml"))


@pytest.mark.parametrize(
    ("environment", "toml", "words"),
    [
        ({"LEASES": "3", "HOMME": "x"}, "", ["SCREENING_HOMME", "did you mean SCREENING_HOME?", "SCREENING_LEASES"]),
        (
            {"LEASE_S": "soon", "PROCESSES": "0", "PROVIDER": "tpu", "LOG_LEVEL": "LOUD"}, "",
            ["SCREENING_LEASE_S", "soon", "SCREENING_PROCESSES", "greater than 0", "SCREENING_PROVIDER", "tpu",
             "SCREENING_LOG_LEVEL"],
        ),
        ({"TYPO": "1", "INBOX_MODE": "eat"}, "", ["SCREENING_TYPO", "worker settings", "one of move, copy, leave"]),
        ({"HOME": ""}, "", ["SCREENING_HOME", "name a folder"]),
        ({"BROKER": "http://broker"}, "", ["SCREENING_BROKER", "redis://"]),
        ({"LEASE_S": "nan"}, "", ["SCREENING_LEASE_S"]),
        ({"OVERDUE_AFTER_H": "inf"}, "", ["SCREENING_OVERDUE_AFTER_H"]),
        ({"SCAN_INTERVAL_S": "-1"}, "", ["SCREENING_SCAN_INTERVAL_S", "greater than 0"]),
        ({"LEASE_S": "12", "HEARTBEAT_S": "10"}, "", ["heartbeat_s", "half of lease_s"]),
        ({"SETTINGS": "nowhere.toml"}, "", ["SCREENING_SETTINGS", "nowhere.toml", "no such file"]),
        ({}, "[screening]\nlese_s = 3\n", ["lese_s"]),
        ({}, "[screening\n", ["screening.toml"]),
        ({}, "lease_s = 40\n", ["screening.toml: lease_s stands in no table", "[screening]"]),
        ({}, "[screenin]\nlease_s = 40\n", ["there is no table [screenin]", "[screening]"]),
        ({}, "screening = 3\n", ["screening is no table"]),
        ({}, "[screening]\nLEASE_S = 40\n", ["there is no setting LEASE_S: did you mean lease_s?"]),
        (
            {"TYPO": "1", "PROVIDER": "tpu"},
            '[screening]\nlese_s = 3\nlease_s = "soon"\nprocesses = 0\nidentifiers = "pseudonyms"\n'
            'inbox_mode = "leave"\n[other]\nx = 1\n',
            ["SCREENING_TYPO", "SCREENING_PROVIDER", "lese_s", "soon", "SCREENING_PROCESSES", "needs them", "[other]"],
        ),
        (
            {"LEASE_S": "12", "HEARTBEAT_S": "10", "IDENTIFIERS": "pseudonyms", "INBOX_MODE": "leave", "HOMME": "x"},
            "",
            ["half of lease_s", "needs them", "SCREENING_HOMME"],
        ),
    ],
)  # fmt: skip
def test_faults_are_named_together_in_one_line(
    tmp_path: Path, environment: dict[str, str], toml: str, words: list[str]
) -> None:
    if toml:
        (tmp_path / "screening.toml").write_text(toml)
    done = ask(tmp_path, **environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "[bad_setting]" in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_rule_is_not_held_against_a_default_where_a_value_is_at_fault(tmp_path: Path) -> None:
    done = ask(tmp_path, LEASE_S="long", HEARTBEAT_S="20")
    assert "SCREENING_LEASE_S" in done.stderr
    assert "half of" not in done.stderr


@pytest.mark.parametrize("url", ["mysql://localhost/x", "no url at all", "oracle+nothing://x"])
def test_a_database_url_that_nobody_understands_is_a_bad_setting(tmp_path: Path, url: str) -> None:
    clean = {**os.environ, "SCREENING_DATABASE": url, "SCREENING_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "worker", "worklist"]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1), done.stderr
    assert "SCREENING_DATABASE" in done.stderr
    assert "[bad_setting]" in done.stderr


def test_passwords_are_not_printed(tmp_path: Path) -> None:
    secret = {"DATABASE": "postgresql://me:s3cret@db/x", "BROKER": "redis://:s3cret@queue:6379/0"}
    found = in_force(tmp_path, **secret)
    assert found["database"]["value"] == "postgresql://me:***@db/x"
    assert found["broker"]["value"] == "redis://:***@queue:6379/0"
    assert "s3cret" not in ask(tmp_path, **secret).stdout


def test_the_embedded_default_lives_in_the_state_folder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.is_embedded
    assert settings.database_url == f"sqlite:///{tmp_path}/screening.sqlite"
    assert settings.store_folder == tmp_path / "store"
    assert settings.broker_url == f"redis+socket://{tmp_path}/broker/redis.sock"


def test_services_by_url(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database="postgresql://db/x", broker="redis://queue/0", store="elsewhere")
    assert settings.database_url == "postgresql+psycopg://db/x"
    assert (settings.broker_url, settings.is_embedded) == ("redis://queue/0", False)
    assert settings.store_folder == Path.cwd() / "elsewhere"


def test_a_deep_state_folder_still_has_a_socket_that_can_be_bound(tmp_path: Path) -> None:
    deep = [Settings(home=tmp_path / ("x" * 100) / str(n)) for n in range(2)]
    assert all(len(os.fsencode(settings.broker_socket)) <= LONGEST_SOCKET_PATH for settings in deep)
    assert deep[0].broker_socket != deep[1].broker_socket


def test_every_setting_has_a_variable() -> None:
    assert "SCREENING_MIN_FREE_MIB" in names()
    assert len(names()) == len(attrs.fields(Settings))


def test_where_no_paths_are_kept_no_file_can_be_left_in_the_inbox(tmp_path: Path) -> None:
    done = ask(tmp_path, IDENTIFIERS="pseudonyms", INBOX_MODE="leave")
    assert (done.returncode, "take copy or move" in done.stderr) == (1, True)


def test_a_password_in_a_wrong_url_is_not_printed(tmp_path: Path) -> None:
    done = ask(tmp_path, BROKER="http://me:s3cret@queue", STORE="s3://me:s3cret@bucket/x", LEASE_S="0")
    assert done.returncode == 1
    assert "s3cret" not in done.stdout + done.stderr
    for name in ("SCREENING_BROKER", "SCREENING_STORE", "SCREENING_LEASE_S"):
        assert name in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("LEASE_S", "1e300", "SCREENING_LEASE_S: it must be greater than 0 and at most 3,000,000,000, not 1e+300"),
        ("OVERDUE_AFTER_H", "1e6", "SCREENING_OVERDUE_AFTER_H: it must be greater than 0 and at most 900,000"),
        ("DATABASE", "sqlite:///", "SCREENING_DATABASE: it names no file"),
        ("DATABASE", "sqlite:///:memory:", "SCREENING_DATABASE: it names no file"),
        ("DATABASE", "sqlite+pysqlite:///", "SCREENING_DATABASE: it names no file"),
    ],
)
def test_a_time_that_never_ends_and_a_database_that_is_kept_nowhere_are_refused(
    tmp_path: Path, name: str, value: str, words: str
) -> None:
    done = ask(tmp_path, **{name: value})
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1), done.stderr
    assert words in done.stderr


def test_a_sqlite_file_by_url_is_taken(tmp_path: Path) -> None:
    assert in_force(tmp_path, DATABASE="sqlite:////srv/a.sqlite")["database"]["value"] == "sqlite:////srv/a.sqlite"
