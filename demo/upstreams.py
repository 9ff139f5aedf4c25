"""Upstreams of the demo, on loopback: one answers, one is slow, one hangs up.

upstreams.py PORT_OK PORT_SLOW PORT_HANGS_UP PORT_BREAKS_OFF
"""
import socket
import sys
import threading
import time


def read_head(conn):
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = conn.recv(65536)
        if not chunk:
            return False
        data += chunk
    return True


def ok(conn):
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")


def slow(_conn):
    time.sleep(20)


def hangs_up(_conn):
    pass


def breaks_off(conn):
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\nhalf of it")


def serve(port, behave):
    listener = socket.create_server(("127.0.0.1", port))

    def handle(conn):
        with conn:
            if read_head(conn):
                behave(conn)

    while True:
        conn, _ = listener.accept()
        threading.Thread(target=handle, args=(conn,), daemon=True).start()


for each, behaviour in zip(sys.argv[1:], (ok, slow, hangs_up, breaks_off)):
    threading.Thread(target=serve, args=(int(each), behaviour), daemon=True).start()
threading.Event().wait()
