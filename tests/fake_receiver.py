#!/usr/bin/env python3
"""A recording receiver for tests: it speaks as much of the Sentry protocol as a sender sees.

    fake_receiver.py [--port N] [--output FILE] [--certificate PEM --key PEM]

Prints its port on the first line of its output, then serves until it is killed. Every envelope
that it has read whole is written to FILE as one line of JSON:

    {"time", "connection", "path", "headers", "status", "bytes",
     "envelope": {"header": {...}, "items": [{"header": {...}, "payload": ...}]}}

"payload" is the decoded JSON, or text. What cannot be decoded has "error" instead of "envelope".

Tests tell it how to misbehave:

    POST /_control [{"times": 2, "status": 429, "headers": {"Retry-After": "5"}}, ...]
        Each rule holds for as many requests ("times": 0 is for ever), in order, then the next one;
        without rules every envelope gets 200. A rule may have
            "path": text      only requests whose path contains it; others are passed over
            "status", "headers", "body"
            "delay": s        answers so much later
            "stall": s        reads the request, waits, hangs up without an answer
            "reset": true     reads the request, then resets the connection
            "refuse": true    resets the connection before it reads the request's body
            "slow": n         reads n bytes a second
            "half": true      sends half of the answer's body, then hangs up
    GET /_records             the lines so far
    GET /_rules               what is left of the rules
"""

import argparse
import gzip
import http.server
import json
import socket
import ssl
import struct
import sys
import threading
import time
import zlib


def decode_item(lines, offset):
    """One item of an envelope that begins at offset: (item, offset behind it)."""
    end = lines.find(b"\n", offset)
    end = len(lines) if end < 0 else end
    header = json.loads(lines[offset:end])
    offset = end + 1
    if "length" in header:
        payload = lines[offset : offset + header["length"]]
        if len(payload) != header["length"]:
            raise ValueError("an item is shorter than its length")
        offset += header["length"]
        if offset < len(lines) and lines[offset : offset + 1] != b"\n":
            raise ValueError("an item does not end with its length")
        offset += 1
    else:
        end = lines.find(b"\n", offset)
        end = len(lines) if end < 0 else end
        payload = lines[offset:end]
        offset = end + 1
    try:
        payload = json.loads(payload)
    except ValueError:
        payload = payload.decode("utf-8", "replace")
    return {"header": header, "payload": payload}, offset


def decode_envelope(body):
    end = body.find(b"\n")
    if end < 0:
        raise ValueError("an envelope without an item")
    envelope = {"header": json.loads(body[:end]), "items": []}
    offset = end + 1
    while offset < len(body):
        item, offset = decode_item(body, offset)
        envelope["items"].append(item)
    return envelope


def decode_body(body, encoding):
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    if encoding:
        raise ValueError("unknown encoding " + encoding)
    return body


class Receiver(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, output):
        super().__init__(address, Handler)
        self.lock = threading.Lock()
        self.output = open(output, "a", buffering=1, encoding="utf-8") if output else None
        self.records = []
        self.rules = []
        self.connections = 0

    def handle_error(self, request, client_address):
        pass  # a client that leaves is a part of many tests

    def take_rule(self, path):
        with self.lock:
            for index, rule in enumerate(self.rules):
                if rule.get("path", "") not in path:
                    continue
                left = rule.get("times", 1)
                if left == 1:
                    del self.rules[index]
                elif left > 1:
                    rule["times"] = left - 1
                return dict(rule)
        return {}

    def record(self, record):
        line = json.dumps(record)
        with self.lock:
            self.records.append(line)
            if self.output:
                self.output.write(line + "\n")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.connections += 1
            self.connection_number = self.server.connections

    def log_message(self, *args):
        pass

    def read_body(self, bytes_per_second):
        length = int(self.headers.get("Content-Length", 0))
        if not bytes_per_second:
            return self.rfile.read(length)
        body = b""
        while len(body) < length:
            time.sleep(0.1)
            body += self.rfile.read(min(max(1, bytes_per_second // 10), length - len(body)))
        return body

    def answer(self, status, body, headers=None, half=False):
        data = body.encode()
        lines = [f"HTTP/1.1 {status} Fake"]
        headers = {"Content-Type": "application/json", **(headers or {})}
        headers["Content-Length"] = str(len(data))
        lines += [f"{name}: {value}" for name, value in headers.items()]
        # One write: two would wait for the other side's acknowledgement.
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self.wfile.write(head + (data[: len(data) // 2] if half else data))
        if half:
            self.close_connection = True

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def do_GET(self):
        if self.path == "/_records":
            with self.server.lock:
                self.answer(200, "[" + ",".join(self.server.records) + "]")
        elif self.path == "/_rules":
            with self.server.lock:
                self.answer(200, json.dumps(self.server.rules))
        else:
            self.answer(404, '{"detail":"not found"}')

    def do_POST(self):
        if self.path == "/_control":
            rules = json.loads(self.read_body(0))
            with self.server.lock:
                self.server.rules = rules
            self.answer(200, "{}")
            return
        rule = self.server.take_rule(self.path)
        if rule.get("refuse"):
            self.reset()
            return
        body = self.read_body(rule.get("slow"))
        status = rule.get("status", 200)
        record = {
            "time": time.time(),
            "connection": self.connection_number,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "status": status,
            "bytes": len(body),
        }
        event_id = ""
        try:
            record["envelope"] = decode_envelope(
                decode_body(body, self.headers.get("Content-Encoding"))
            )
            event_id = record["envelope"]["header"].get("event_id", "")
        except (ValueError, OSError, EOFError, zlib.error) as error:
            record["error"] = str(error)
        self.server.record(record)
        if rule.get("stall"):
            time.sleep(rule["stall"])
            self.close_connection = True
        elif rule.get("reset"):
            self.reset()
        else:
            time.sleep(rule.get("delay", 0))
            body = rule.get("body", json.dumps({"id": event_id}))
            self.answer(status, body, rule.get("headers"), rule.get("half", False))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--output")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    options = parser.parse_args()
    server = Receiver(("127.0.0.1", options.port), options.output)
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
