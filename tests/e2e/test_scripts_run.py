"""The whole house as a user starts it: it serves, it is alone on its ports, and it leaves nothing.

It knows nothing but where its data is, and its launcher is killed in the end. What it has stored,
the next house finds, which is the one that all share who need a whole house.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from serve_app.hosting.replicas import GIVING_WAY
from serve_app.house.demo_logins import BOX_OFFICE, CUSTOMER, read_demo_logins
from tests.support.listening import allowed_listeners, listeners_of, not_allowed, public
from tests.support.whole_house import COMMAND, WholeHouse

pytestmark = pytest.mark.skipif(
    sys.platform != "linux",
    reason="only Linux has what keeps a killed launcher's house from living on",
)

REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 180
STOP_S = 40
PROMISE_S = 10
OPEN = re.compile(r"Housefull is open at (http://\S+) ")
LAST_WORDS = "Ctrl-C stops everything."
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

    def __init__(self, command: Sequence[str], data: Path) -> None:
        self.data = data
        self.output_path = data.parent / "output"
        # Nearly nothing, because a user's shell may have nearly nothing.
        environment = {
            "PATH": os.defpath,
            "HOUSEFULL_DATA_DIR": str(data),
            "HOUSEFULL_HTTP_PORT": "0",
            "HOUSEFULL_HTTP_REPLICAS": "1",
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
        self.url = ""
        self._headers: dict[str, dict[str, str]] = {}

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    @property
    def sandbox_url(self) -> str:
        return str(json.loads((self.data / "running.json").read_text())["sandbox_url"])

    def wait_until_open(self) -> None:
        def is_over() -> bool:
            return LAST_WORDS in self.output or self.launcher.poll() is not None

        wait_until(is_over, START_S)
        assert self.launcher.poll() is None, self.output
        self.processes = psutil.Process(self.launcher.pid).children(recursive=True)
        found = OPEN.search(self.output)
        assert found, self.output
        self.url = found[1]

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

    def log_in(self, email: str = CUSTOMER) -> dict[str, str]:
        """The header of somebody who has a demo login."""
        if email not in self._headers:
            logins = {login.email: login.password for login in read_demo_logins(self.data)}
            body = {"email": email, "password": logins[email]}
            status, session = self.call("/api/account/sessions", body)
            assert status == 201, session
            self._headers[email] = {"Authorization": f"Bearer {session['access_token']}"}
        return self._headers[email]

    def hold(self, show_id: str, key: str, email: str = CUSTOMER) -> tuple[int, dict[str, object]]:
        headers = {**self.log_in(email), "Idempotency-Key": key}
        return self.call(f"/api/booking/shows/{show_id}/holds", HOLD, **headers)

    def sell(self, show_id: str, key: str) -> object:
        """The booking of somebody who pays at the box office."""
        status, held = self.hold(show_id, key, BOX_OFFICE)
        assert status in (200, 201), held
        path = f"/api/booking/holds/{held['hold_id']}/confirm"
        status, booking = self.call(path, {"payment": "counter"}, **self.log_in(BOX_OFFICE))
        assert status in (200, 201), booking
        return booking["booking_id"]

    def bookings(self) -> list[object]:
        """What the box office has sold."""
        status, page = self.call("/api/booking/bookings", **self.log_in(BOX_OFFICE))
        assert status == 200, page
        bookings = page["bookings"]
        assert isinstance(bookings, list)
        return [booking["booking_id"] for booking in bookings]

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


@pytest.fixture(scope="module")
def house(house_data: Path) -> Iterator[House]:
    house = House(COMMAND, house_data)
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


def test_kill_9_of_the_launcher_leaves_no_process_and_what_was_sold_stays_sold(
    house: House, request: pytest.FixtureRequest
) -> None:
    show_id = house.next_performance()
    sold = house.sell(show_id, "sold")
    house.processes = psutil.Process(house.launcher.pid).children(recursive=True)
    run_directory = (house.data / "run").readlink()
    # The script has become the launcher.
    assert "serve_app" in psutil.Process(house.launcher.pid).cmdline()
    house.launcher.kill()
    house.launcher.wait()
    wait_until(lambda: house.left() == [], PROMISE_S)
    wait_until(lambda: not run_directory.exists(), PROMISE_S)
    # Its port is taken as well, and others go on with it, to save two more starts.
    found: WholeHouse = request.getfixturevalue("whole_house")
    wait_until(lambda: LAST_WORDS in found.house.output, STOP_S)
    said, house.url = found.house.output, found.house.url
    assert f"Port {found.taken_port} (HTTP) was taken; using " in said
    assert not house.url.endswith(f":{found.taken_port}")
    assert "demo catalogue" not in said
    assert sold in house.bookings()
    assert house.sell(show_id, "sold") == sold
    verified = house.command("verify", show_id)
    assert " 0 seat-legs taken" not in verified.stdout, verified
