"""The recording receiver (tests/fake_receiver.py) as a process of a test."""
import json
import pathlib
import ssl
import subprocess
import sys
import urllib.request

PROGRAM = pathlib.Path(__file__).resolve().parents[1] / "fake_receiver.py"
KEY = "0123456789abcdef0123456789abcdef"


class Receiver:
    def __init__(self, *options):
        self.process = subprocess.Popen([sys.executable, PROGRAM, *options],
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.scheme = "https" if "--certificate" in options else "http"
        self.dsn = f"{self.scheme}://{KEY}@127.0.0.1:{self.port}/42"

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        context = ssl._create_unverified_context() if self.scheme == "https" else None
        with urllib.request.urlopen(f"{self.scheme}://127.0.0.1:{self.port}{path}", data, timeout=10,
                                    context=context) as answer:
            return json.load(answer)

    def control(self, *rules):
        self.call("/_control", list(rules))

    def records(self):
        return self.call("/_records")

    def items(self, kind):
        """Payloads of all items of a type that got a 2xx."""
        return [item["payload"] for record in self.records() if 200 <= record["status"] < 300
                for item in record["envelope"]["items"] if item["header"]["type"] == kind]

    def stop(self):
        self.process.kill()
        self.process.wait()
