"""The whole house as a user starts it: it serves, it is alone on its ports, and it leaves nothing.

The tests of this module share one data directory and start the house a few times; what one house
has stored, the next one finds.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serve_app.hosting.replicas import GIVING_WAY
from tests.support.listening import allowed_listeners, listeners_of, not_allowed, public

pytestmark = pytest.mark.skipif(
    sys.platform != "linux",
    reason="only Linux has what keeps a killed launcher's house from living on",
)

REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 180
STOP_S = 40
PROMISE_S = 10
OPEN = re.compile(r"Housefull is open at (http://\S+) ")
HOLD = {"best_available": {"count": 2}}


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        # It ended between the two questions.
        return False


class House:
    """A house that was started from a command, with all its processes."""

    def __init__(self, command: list[str], data: Path, **variables: str) -> None:
        self.data = data
        self.output_path = data.parent / "output"
        # Nearly nothing, because a user's shell may have nearly nothing.
        environment = {
            "PATH": os.defpath,
            "HOUSEFULL_DATA_DIR": str(data),
            "HOUSEFULL_HTTP_PORT": "0",
            "HOUSEFULL_HTTP_REPLICAS": "1",
            **variables,
        }
        with self.output_path.open("w") as output:
            self.launcher = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes: list[psutil.Process] = []
        self._token = ""

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    @property
    def url(self) -> str:
        found = OPEN.search(self.output)
        assert found, self.output
        return found[1]

    @property
    def sandbox_url(self) -> str:
        return str(json.loads((self.data / "running.json").read_text())["sandbox_url"])

    def wait_until_open(self) -> None:
        def is_over() -> bool:
            return "Ctrl-C stops everything." in self.output or self.launcher.poll() is not None

        wait_until(is_over, START_S)
        assert self.launcher.poll() is None, self.output
        self.processes = psutil.Process(self.launcher.pid).children(recursive=True)

    def left(self) -> list[psutil.Process]:
        return [process for process in self.processes if is_alive(process)]

    def stop(self) -> int:
        self.launcher.send_signal(signal.SIGINT)
        return self.launcher.wait(STOP_S)

    def call(self, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, object]]:
        request = urllib.request.Request(f"{self.url}{path}", headers=headers)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def next_performance(self) -> str:
        status, page = self.call("/api/browse/shows?kind=performance&limit=1")
        assert status == 200, page
        shows = page["shows"]
        assert isinstance(shows, list)
        return str(shows[0]["show_id"])

    def log_in(self) -> str:
        """An access token of the demo house's customer."""
        if not self._token:
            email = "customer@housefull.example"
            logins = dict(line.split() for line in (self.data / "demo.logins").open())
            body = {"email": email, "password": logins[email]}
            status, session = self.call("/api/account/sessions", body)
            assert status == 201, session
            self._token = str(session["access_token"])
        return self._token

    def hold(self, show_id: str, key: str) -> tuple[int, dict[str, object]]:
        headers = {"Authorization": f"Bearer {self.log_in()}", "Idempotency-Key": key}
        return self.call(f"/api/booking/shows/{show_id}/holds", HOLD, **headers)

    def run_shell(self, script: str) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            ["sh", "-ec", script],
            cwd=REPOSITORY,
            env={"PATH": os.defpath, "HOUSEFULL_DATA_DIR": str(self.data), "no_proxy": "*"},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode == 127:
            pytest.skip("this machine has no curl")
        return ended

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "serve_app", *arguments],
            cwd=REPOSITORY,
            env={"PATH": os.defpath, "HOUSEFULL_DATA_DIR": str(self.data)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


RUN = [sys.executable, "-m", "serve_app", "run"]
SCRIPT = ["sh", str(REPOSITORY / "scripts" / "run")]
SCRIPT_IS_READY = (REPOSITORY / ".venv" / "installed").exists()
"""Where scripts/test did not make .venv, scripts/run would install into it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a house") / "data"


@pytest.fixture(scope="module")
def house(data: Path) -> Iterator[House]:
    house = House(RUN, data)
    try:
        house.wait_until_open()
        yield house
    finally:
        if house.launcher.poll() is None:
            house.stop()


def test_it_serves_shows_and_sells_seats(house: House) -> None:
    show_id = house.next_performance()
    status, first = house.hold(show_id, "first")
    assert status == 201, first
    again_status, again = house.hold(show_id, "first")
    assert again_status in (200, 201)
    assert again["hold_id"] == first["hold_id"]


def test_the_commands_it_recommends_work(house: House) -> None:
    said = house.output.partition("Housefull is open at")[2]
    lines = [line for line in said.splitlines() if line.startswith("  ")]
    script = "\n".join(lines).replace("curl ", "curl --fail --silent --write-out '\\n' ")
    assert script.count("curl ") == 11
    ended = house.run_shell(script)
    assert ended.returncode == 0, f"{script}\n{ended.stderr}"
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    shows, seat_map, booking, bookings, paid, payment = answers
    assert len(shows["shows"]) == 3
    assert seat_map["counts"]["free"] > 0
    assert booking["payment"] == "counter"
    assert bookings["bookings"][0]["booking_id"] == booking["booking_id"]
    assert paid == {"requires_capture": 1}
    assert payment["state"] in ("waiting", "paid", "booked")


def test_passwords_are_nowhere_but_in_their_file(house: House) -> None:
    passwords = [line.split()[1] for line in (house.data / "demo.logins").open()]
    assert len(passwords) == 5
    logs = [path for path in (house.data / "logs").rglob("*") if path.is_file()]
    assert logs
    for text in (house.output, *(path.read_text(errors="replace") for path in logs)):
        assert not any(password in text for password in passwords)


def test_the_readme_can_be_followed_to_the_letter(house: House) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    sections = [readme.partition(f"## {name}")[2] for name in ("Try it", "Payments")]
    lines = [line for text in sections for line in text.partition("\n## ")[0].splitlines()]
    script = "\n".join(line[4:] for line in lines if line.startswith("    "))
    assert "house=http://127.0.0.1:8000" in script
    assert " .housefull/demo.logins" in script
    assert "sandbox=http://127.0.0.1:8010" in script
    script = script.replace("http://127.0.0.1:8000", house.url)
    script = script.replace("http://127.0.0.1:8010", house.sandbox_url)
    script = script.replace(".housefull/demo.logins", f"'{house.data}/demo.logins'")
    script = script.replace(".venv/bin/housefull", f"{sys.executable} -m serve_app")
    # One answer a line, so that the answers can be told apart.
    script = script.replace("curl ", "curl --silent --write-out '\\n' ")
    ended = house.run_shell(script)
    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    found, seat_map, signed_up, me, held, again, clash, best, booking, bookings = answers[:10]
    paid, payment, mine = answers[10:]
    assert found["shows"][0]["title"] == "Twelfth Night"
    assert seat_map["counts"]["free"] > 0
    assert signed_up == {"status": "letter_sent"}
    assert (me["email"], me["role"]) == ("ada@customer.example", "customer")
    assert [seat["label"] for seat in held["seats"]] == ["S-C-7", "S-C-8"]
    assert again == held
    assert (clash["status"], clash["code"]) == (409, "seat_unavailable")
    assert clash["seats"] == ["S-C-7", "S-C-8"]
    assert (best["arrangement"], len(best["seats"])) == ("row", 2)
    assert booking["hold_id"] == best["hold_id"]
    assert bookings["bookings"][0]["booking_id"] == booking["booking_id"]
    assert paid == {"requires_capture": 1}
    assert payment["hold_id"] == held["hold_id"]
    assert payment["state"] in ("waiting", "paid", "booked")
    assert len(mine["bookings"]) <= 1
    assert "nothing was sold twice and all books agree" in ended.stdout
    # The letter went into a file, because there is no mail server.
    assert "ada@customer.example" in next((house.data / "mail").glob("*.eml")).read_text()


def test_everything_listens_on_loopback_but_what_the_list_names(house: House) -> None:
    found = listeners_of(psutil.Process(house.launcher.pid).children(recursive=True))
    assert not_allowed(found, allowed_listeners(), ports={}) == []
    assert {listener.process for listener in public(found)} == {"ray::ServeReplica"}


def test_every_process_runs_at_ordinary_priority_but_those_that_let_people_log_in(
    house: House,
) -> None:
    own = psutil.Process().nice()
    others = [
        (" ".join(process.cmdline()), process.nice())
        for process in house.left()
        if process.nice() != own
    ]
    # The one gives way to those who sell; what hashes for it, to everybody.
    hashing = [nice for name, nice in others if "hashing_program" in name]
    assert all(nice == 19 for nice in hashing)
    account = [nice for name, nice in others if name.startswith("ray::ServeReplica:account")]
    assert account == [GIVING_WAY]
    assert len(others) == len(hashing) + len(account)


def test_a_second_house_in_the_same_place_is_refused(house: House) -> None:
    ended = house.command("run", "--port", "0")
    assert ended.returncode == 1
    assert f"in use by `housefull run` (process {house.launcher.pid})" in ended.stderr


def test_commands_find_the_running_house(house: House) -> None:
    ended = house.command("verify")
    assert ended.returncode == 0, ended.stderr
    assert "all books agree" in ended.stdout
    plan = REPOSITORY / "serve_app" / "catalogue" / "demo" / "theatre.json"
    imported = house.command("import", "seating-plan", str(plan))
    assert imported.returncode == 0, imported.stderr


def test_a_database_that_dies_is_started_again(house: House) -> None:
    servers = [process for process in house.left() if process.name() == "postgres"]
    (postmaster,) = (
        process for process in servers if process.parent() not in servers and process.parent()
    )
    postmaster.kill()
    show_id = house.next_performance

    def sells() -> bool:
        try:
            return house.hold(show_id(), "after-the-crash")[0] in (200, 201)
        except (AssertionError, OSError, ValueError):
            return False

    wait_until(sells, 60)
    assert "PostgreSQL has ended by itself; starting it again" in house.output


def test_ctrl_c_stops_everything_and_leaves_nothing(house: House, data: Path) -> None:
    house.processes = psutil.Process(house.launcher.pid).children(recursive=True)
    link = data / "run"
    run_directory = link.readlink()
    assert house.stop() == 0
    assert house.left() == []
    assert not run_directory.exists()
    assert not link.is_symlink()
    assert not (data / "running.json").exists()


def test_kill_9_of_the_launcher_leaves_no_process_and_what_was_sold_stays_sold(
    data: Path,
) -> None:
    # The port is taken as well, and the script becomes the launcher, to save two more starts.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        house = House(SCRIPT if SCRIPT_IS_READY else RUN, data, HOUSEFULL_HTTP_PORT=str(port))
        house.wait_until_open()
    assert f"Port {port} (HTTP) was taken; using " in house.output
    assert not house.url.endswith(f":{port}")
    assert "demo catalogue" not in house.output
    show_id = house.next_performance()
    assert house.hold(show_id, "first")[1] == house.hold(show_id, "first")[1]
    verified = house.command("verify", show_id)
    assert " 0 seat-legs taken" not in verified.stdout, verified
    run_directory = (data / "run").readlink()
    assert "serve_app" in psutil.Process(house.launcher.pid).cmdline()
    house.launcher.kill()
    house.launcher.wait()
    wait_until(lambda: house.left() == [], PROMISE_S)
    wait_until(lambda: not run_directory.exists(), PROMISE_S)
