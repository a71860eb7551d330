"""A headless Chromium, controlled through the DevTools protocol over two pipes."""

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--disable-background-networking", "--remote-debugging-pipe")


SECONDS = 60  # to wait for a message at most


class Browser:
    """One tab. `problems` collects the errors and warnings in its console."""

    def __init__(self, process, read, write):
        self.process, self.read, self.write, self.unread = process, read, write, b""
        self.numbers, self.session = itertools.count(1), None
        self.problems, self.loaded = [], False
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target,
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method, **params):
        """Call a method of the protocol and wait for its result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def receive(self):
        """The next message; an error or warning that it reports is added to `problems`."""
        while b"\0" not in self.unread:
            assert select.select([self.read], [], [], SECONDS)[0], f"nothing for {SECONDS} s"
            some = os.read(self.read, 1 << 16)
            assert some, "chromium has gone away"
            self.unread += some
        text, _, self.unread = self.unread.partition(b"\0")
        message = json.loads(text)
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(params["exceptionDetails"]["exception"]["description"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(str([arg.get("value") for arg in params["args"]]))
        self.loaded = self.loaded or method == "Page.loadEventFired"
        return message

    def open(self, address):
        """Go to an address and wait until it has loaded."""
        self.loaded = False
        if "loaderId" in self.send("Page.navigate", url=address):  # absent within the same page
            self.wait()

    def wait(self):
        """Wait until the page has loaded."""
        while not self.loaded:
            self.receive()

    def run(self, script):
        """The value of a JavaScript expression."""
        done = self.send("Runtime.evaluate", expression=script, returnByValue=True,
                         awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def follow(self, script):
        """Run a script that leads to another page, and wait until that has loaded."""
        self.loaded = False
        self.run(script)
        self.wait()

    def size(self, width, height=900):
        """Set the size of the window; one narrower than 600 pixels is emulated as a phone's."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)


@contextlib.contextmanager
def browser():
    """A browser with a new profile; afterwards it is closed and the profile deleted."""
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = ["bash", "-c", 'exec "$@" 3<&"$IN" 4>&"$OUT"', "-", CHROMIUM, *FLAGS,
                   f"--user-data-dir={profile}"]
        process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out),
                                   env=os.environ | {"IN": f"{theirs_in}",
                                                     "OUT": f"{theirs_out}"},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(process, ours_in, ours_out)
        finally:
            os.close(ours_in)
            os.close(ours_out)
            process.terminate()
            process.wait()
