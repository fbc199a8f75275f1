"""Streams over WebSocket: a command in a pod with its input, and a port of one; logs."""

import http.server
import threading
import unittest

from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

config.load_kube_config()


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *arguments):
        pass


class Streams(unittest.TestCase):
    def setUp(self):
        self.core = client.CoreV1Api()

    def exec(self, *command, **options):
        # A client of its own: the stream changes how it sends.
        core = client.CoreV1Api(client.ApiClient())
        options = {"stdin": False, "stdout": True, "stderr": True, "tty": False, **options}
        return stream(core.connect_get_namespaced_pod_exec, "p", "default", command=list(command), **options)

    def test_a_command_says_what_it_has_to(self):
        self.assertEqual(self.exec("echo", "a b", "c"), "a b c\n")
        ran = self.exec("sh", "-c", "echo out; echo err >&2; exit 7", _preload_content=False)
        ran.run_forever(timeout=30)
        self.assertEqual((ran.read_stdout(), ran.read_stderr(), ran.returncode), ("out\n", "err\n", 7))

    def test_a_command_reads_its_input(self):
        ran = self.exec("sh", "-c", "read line; echo got $line", stdin=True, _preload_content=False)
        ran.write_stdin("this\n")
        self.assertEqual(ran.readline_stdout(timeout=30), "got this")
        ran.run_forever(timeout=30)
        self.assertEqual(ran.returncode, 0)
        # With the fifth version of the protocol input can end before the command.
        ran = self.exec("sort", stdin=True, _preload_content=False)
        ran.write_stdin("b\na\n")
        ran.close_channel(0)
        ran.run_forever(timeout=30)
        self.assertEqual((ran.read_stdout(), ran.returncode), ("a\nb\n", 0))

    def test_bytes_pass_unchanged(self):
        ran = self.exec("cat", stdin=True, binary=True, _preload_content=False)
        sent = bytes(range(256)) * 400
        ran.write_stdin(sent)
        ran.close_channel(0)
        ran.run_forever(timeout=30)
        self.assertEqual(ran.read_stdout(), sent)

    def test_what_cannot_run_is_refused(self):
        for pod, container, message in [
            ("p", "other", "container other is not valid for pod p"),
            ("nothing", "main", 'pods \\"nothing\\" not found'),
        ]:
            # The client trips over an error that has no body; what the server said is behind that.
            with self.subTest(pod), self.assertRaises(Exception) as caught:
                stream(
                    client.CoreV1Api(client.ApiClient()).connect_get_namespaced_pod_exec,
                    pod, "default", container=container, command=["true"], stdout=True,
                )
            refused = caught.exception
            while not isinstance(refused, ApiException):
                refused = refused.__context__
            self.assertIn(message, refused.reason)

    def test_a_port_is_forwarded(self):
        with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            port = server.server_port
            core = client.CoreV1Api(client.ApiClient())
            forwarded = portforward(core.connect_get_namespaced_pod_portforward, "p", "default", ports=str(port))
            socket = forwarded.socket(port)
            socket.settimeout(30)
            socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while not answer.endswith(b"hello"):
                read = socket.recv(1024)
                self.assertTrue(read, answer)
                answer += read
            self.assertIsNone(forwarded.error(port))
            forwarded.close()
            server.shutdown()

    def test_logs(self):
        log = lambda **options: self.core.read_namespaced_pod_log("p", "default", _preload_content=False, **options).data
        self.assertEqual(log(), b"one\ntwo\nthree\n")
        self.assertEqual(log(tail_lines=1), b"three\n")
        followed = watch.Watch().stream(self.core.read_namespaced_pod_log, "p", "default")
        self.assertEqual(next(followed), "one")
        followed.close()
