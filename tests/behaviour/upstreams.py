"""Upstreams that misbehave in one way each, on loopback, in threads of the test process.

    with Upstreams() as up:
        up.slow.url      # accepts, reads the request, never answers
"""
import socket
import struct
import threading

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


def read_request(conn):
    """The bytes of one request's head, or what came before the client hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = conn.recv(65536)
        if not chunk:
            break
        data += chunk
    return data


def reset(conn):
    """Closes with RST instead of FIN."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


class Upstream:
    """A listener whose connections are handled by `behave(conn, request)`."""

    def __init__(self, behave, backlog=128):
        self.behave = behave
        self.requests = []
        self.held = []
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(backlog)
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    @property
    def peer(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"http://{self.peer}"

    def run(self):
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            request = read_request(conn)
            if request:
                self.requests.append(request)
                self.behave(self, conn, request)
            else:
                conn.close()
        except OSError:
            pass

    def stop(self):
        # shutdown() wakes the thread that sleeps in accept(); close() alone would not.
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        self.thread.join(5)
        for conn in self.held:
            conn.close()


def answer(data):
    def behave(_upstream, conn, _request):
        conn.sendall(data)
        conn.close()
    return behave


def status(code, extra=b"", body=b"upstream says no\n"):
    head = b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\nConnection: close\r\n" % (code, len(body))
    return answer(head + extra + b"\r\n" + body)


def hold(upstream, conn, _request):
    upstream.held.append(conn)


def close_before_header(_upstream, conn, _request):
    conn.close()


def reset_before_header(_upstream, conn, _request):
    reset(conn)


def close_in_body(_upstream, conn, _request):
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nonly this")
    conn.close()


def stall_in_body(upstream, conn, _request):
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nonly this")
    upstream.held.append(conn)


def by_path(_upstream, conn, request):
    """/.../status/NNN answers NNN; everything else is 200."""
    path = request.split(b" ", 2)[1]
    code = int(path.rsplit(b"/", 1)[1]) if b"/status/" in path else 200
    status(code, body=b"ok\n" if code == 200 else b"no\n")(_upstream, conn, request)


def free_port():
    """A port on which nobody listens: connections to it are refused."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Dead:
    def __init__(self):
        self.port = free_port()
        self.peer = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.peer}"

    def stop(self):
        pass


class Full:
    """Listens with a full backlog: the handshake is never finished, connecting times out."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(0)
        self.port = self.socket.getsockname()[1]
        self.peer = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.peer}"
        self.fillers = []
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", self.port))
            self.fillers.append(s)

    def stop(self):
        for s in self.fillers + [self.socket]:
            s.close()


class PlainOnTls(Upstream):
    """Answers a TLS handshake with plain text."""

    def serve(self, conn):
        try:
            conn.recv(1024)
            conn.sendall(b"HTTP/1.0 400 this is not TLS\r\n\r\n")
            conn.close()
        except OSError:
            pass

    @property
    def url(self):
        return f"https://{self.peer}"


class Upstreams:
    """All of them, made when first asked for."""

    KINDS = {
        "ok": lambda: Upstream(answer(OK)),
        "by_path": lambda: Upstream(by_path),
        "error500": lambda: Upstream(status(500)),
        "error503": lambda: Upstream(status(503)),
        "reported500": lambda: Upstream(status(500, b"X-Sentry-Event-Id: " + b"a" * 32 + b"\r\n")),
        "own504": lambda: Upstream(status(504)),
        "slow": lambda: Upstream(hold),
        "closes": lambda: Upstream(close_before_header),
        "resets": lambda: Upstream(reset_before_header),
        "truncates": lambda: Upstream(close_in_body),
        "stalls": lambda: Upstream(stall_in_body),
        "garbage": lambda: Upstream(answer(b"\x00\x01\x02 this is no HTTP\n" * 4)),
        "bad_header": lambda: Upstream(answer(b"HTTP/1.1 200 OK\r\nno colon here\x01\r\n\r\nbody")),
        "big_header": lambda: Upstream(
            answer(b"HTTP/1.1 200 OK\r\nX-Big: " + b"x" * 200000 + b"\r\n\r\nbody")),
        "not_tls": lambda: PlainOnTls(None),
        "dead": Dead,
        "full": Full,
    }

    def __init__(self):
        self.made = {}
        self.more = []

    def __getattr__(self, name):
        if name not in self.KINDS:
            raise AttributeError(name)
        if name not in self.made:
            self.made[name] = self.KINDS[name]()
        return self.made[name]

    def new(self, behave):
        upstream = Upstream(behave)
        self.more.append(upstream)
        return upstream

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for upstream in list(self.made.values()) + self.more:
            upstream.stop()
