"""Tests of the client that are not possible through a node."""

import os
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
from unittest import mock

from fake import Fake, Handler
from support import Clock, package, wait

client, service = package("client"), package("service")


class Bytes(client.Source):
    size = 1 << 18

    def chunks(self, start, end):
        yield bytes(end - start)


def begin(handler):
    """Begins a stream that ends with its connection."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True


class ClientTest(unittest.TestCase):
    def setUp(self):
        self.fake = Fake().start()
        self.addCleanup(self.fake.stop)
        self.client = client.Client(self.fake.url)
        self.addCleanup(self.client.abort)

    def submit(self):
        self.client.submit({k: {"upload": self.client.upload(k, Bytes(), lambda n: None)} for k in ("video", "audio")})

    def test_every_answer_renews_the_patience(self):
        """A request that takes longer than PATIENCE is tried again as well."""
        calls, clock = [], Clock()

        def transfer():
            calls.append(0)
            for _ in range(3):
                clock.now += client.PATIENCE / 2
                self.client._heard = clock.now
            if len(calls) < 9:
                raise client.Lost("broken")

        def pause(seconds):
            clock.now += seconds
            return False

        with mock.patch.object(client, "time", clock), mock.patch.object(self.client._aborted, "wait", pause):
            self.client.again(transfer, lambda: len(calls))
            self.assertEqual(len(calls), 9)
            start = clock.now
            with self.assertRaises(client.Lost):
                self.client.again(lambda: (_ for _ in ()).throw(client.Lost("gone")))
            self.assertGreater(clock.now - start, client.PATIENCE)
            self.assertLess(clock.now - start, client.PATIENCE + 6)

    def test_answers_without_progress(self):
        """A result that cannot be sent is not requested forever."""
        calls = []

        def transfer():
            calls.append(0)
            self.client._heard = time.monotonic()
            raise client.Lost("broken")

        with mock.patch.object(self.client._aborted, "wait", lambda pause: False), self.assertRaisesRegex(client.Failure, "breaks off its answers"):
            self.client.again(transfer)
        self.assertEqual(len(calls), client.FUTILE)

    def test_a_long_stream_renews_the_patience(self):
        """Comments that only keep the stream open count as well."""
        self.submit()
        revived, clock = [], Clock()
        self.client.revive = lambda: revived.append(0)
        calls = [0]

        def events(handler, j, query):
            calls[0] += 1
            begin(handler)
            if calls[0] == 1:
                for _ in range(8):
                    handler.wfile.write(b": still here\n\n")
                    handler.wfile.flush()
                    clock.now += client.PATIENCE / 4
            else:
                j.update(state="done", result={"size": 1})

        def get(method, path, *args, **kw):
            if calls[0] == 1 and path.startswith("/v1/jobs/") and not revived:
                raise client.Lost("gone")
            return json_(method, path, *args, **kw)

        json_ = self.client.json
        with mock.patch.object(client, "time", clock), mock.patch("fake.Handler.get_jobs_events", events), mock.patch.object(self.client, "json", get):
            self.assertEqual(self.client.follow(lambda kind, event: None)["state"], "done")
        self.assertEqual(len(revived), 1)

    def test_a_job_that_waits_long(self):
        """Streams without events may end any number of times while the server answers."""
        self.submit()
        self.fake.steps = 0
        ends, clock = [0], Clock()

        def events(handler, j, query):
            ends[0] += 1
            clock.now += client.PATIENCE / 3
            begin(handler)
            if ends[0] > 5:
                j.update(state="done", result={"size": 1})

        with mock.patch.object(client, "time", clock), mock.patch("fake.Handler.get_jobs_events", events):
            self.assertEqual(self.client.follow(lambda kind, event: None)["state"], "done")

    def test_a_server_that_ends_is_started_again(self):
        self.submit()
        port = self.fake.server_port
        self.fake.stall = "events"
        revived = []

        def revive():
            if not revived:
                again = Fake(port)
                again.jobs = {k: {**j, "state": "running"} for k, j in self.fake.jobs.items()}
                for j in again.jobs.values():
                    j["path"] = os.devnull
                revived.append(again.start())
                self.addCleanup(again.stop)

        self.client.revive = revive

        def on_event(kind, event):
            if event.get("frame") == 2 and not revived:  # the next is silence
                self.fake.shutdown()
                self.fake.server_close()
                for sock, _ in self.client._open:
                    sock.shutdown(2)

        self.assertEqual(self.client.follow(on_event)["state"], "done")
        self.assertEqual(len(revived), 1)

    def test_removes_a_job_of_another_process(self):
        self.submit()
        self.fake.stall = "events"
        self.client.other(self.client.job_id, list(self.fake.uploads)).clean()
        wait(lambda: not self.fake.uploads and not self.fake.jobs)

    def test_a_lost_answer_makes_no_second_job(self):
        """The job is requested again with the same key."""
        keys = []
        post = Handler.post_jobs

        def lose(handler, j, query):
            keys.append(handler.headers["Idempotency-Key"])
            if len(keys) < 3:
                handler.rfile.read(int(handler.headers["Content-Length"]))
                handler.close_connection = True
                return
            post(handler, j, query)

        with mock.patch("fake.Handler.post_jobs", lose), mock.patch.object(self.client._aborted, "wait", lambda pause: False):
            self.submit()
        self.assertEqual(len(keys), 3)
        self.assertEqual(len(set(keys)), 1)
        self.assertGreater(len(keys[0]), 20)
        self.assertEqual(len(self.fake.jobs), 1)

    def test_tls(self):
        """Errors of TLS say what to do, and are not tried again."""
        secure = client.Client(self.fake.url.replace("http:", "https:"))
        with self.assertRaisesRegex(client.Failure, "(?s)no secure connection.*write http://"):
            secure.negotiate()
        for error, hint in (
            (ssl.SSLCertVerificationError(1, "unable to get local issuer certificate"), "LIPSTREAM_TLS_CA"),
            (ssl.SSLCertVerificationError(1, "certificate has expired"), "renew"),
            (ssl.SSLCertVerificationError(1, "Hostname mismatch, certificate is not valid for 'x'"), "host name"),
            (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required"), "LIPSTREAM_TLS_CERT"),
        ):
            with mock.patch.object(client.http.client.HTTPSConnection, "connect", side_effect=error), self.assertRaises(client.Failure) as caught:
                secure.negotiate()
            self.assertIn(hint, caught.exception.hint)
            self.assertNotIsInstance(caught.exception, client.Lost)

    def test_a_job_that_is_refused_late(self):
        """If a job is refused after Cancel, its uploads are removed."""
        self.fake.stall = "create"
        threading.Thread(target=lambda: (self.fake.stalled.wait(), self.client.abort(), self.fake.leaving.set())).start()

        def refuse(handler, _, __):
            handler.rfile.read(int(handler.headers["Content-Length"]))
            handler.silent("create")
            handler.refuse(422, "the video cannot be read")

        with mock.patch("fake.Handler.post_jobs", refuse), self.assertRaises(client.Failure):
            self.submit()
        wait(lambda: not self.fake.uploads)

    def test_a_server_that_is_busy(self):
        """The request is tried again."""
        self.submit()
        refusals, seen = [503, 503], []

        def frames(handler, j, query):
            if refusals:
                return handler.refuse(refusals.pop(), "others are reading frames")
            handler.answer(200, None, {"Lipstream-Width": "1", "Lipstream-Height": "1", "Lipstream-Frames": "0"})

        with mock.patch("fake.Handler.get_jobs_frames", frames), self.assertRaisesRegex(client.Failure, "has no frames"):
            self.client.frames(lambda *size: seen.append)
        self.assertEqual(refusals, [])

    def test_abort_ends_waiting_requests(self):
        """No thread keeps reading from a silent server."""
        self.submit()
        self.fake.stall = "events"
        ended = threading.Event()

        def follow():
            try:
                self.client.follow(lambda kind, event: None)
            except client.Lost:
                ended.set()

        threading.Thread(target=follow, daemon=True).start()
        self.fake.stalled.wait()
        with mock.patch.object(self.client, "clean"):  # which would end the silence
            self.client.abort()
        ended.wait()

    def test_leaves_during_an_upload(self):
        """If Python exits in the middle of an upload, the upload is removed."""
        ident = self.client.upload("x", Bytes(), lambda n: None)
        self.assertIn(ident, self.fake.uploads)
        self.client.leave()
        self.assertEqual(self.fake.uploads, {})


class TLSTest(unittest.TestCase):
    """A server on another machine, with a certificate of its own authority."""

    def setUp(self):
        if not shutil.which("openssl"):
            self.skipTest("no openssl")
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.cert, self.key = (os.path.join(temp.name, n) for n in ("cert.pem", "key.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=lipstream",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-out", self.cert, "-keyout", self.key], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        context.load_verify_locations(self.cert)
        self.context, self.fake = context, Fake()
        self.fake.socket = context.wrap_socket(self.fake.socket, server_side=True)
        self.addCleanup(self.fake.start().stop)
        self.url = self.fake.url.replace("http:", "https:")
        env = {k: v for k, v in os.environ.items() if not k.startswith("LIPSTREAM_")}
        p = mock.patch.dict(os.environ, env, clear=True)
        p.start()
        self.addCleanup(p.stop)

    def test_authority(self):
        os.environ["LIPSTREAM_SERVER"] = self.url
        with self.assertRaisesRegex(client.Failure, "^the certificate of https://.* is not trusted .*\n.*LIPSTREAM_TLS_CA"):
            service.connect("")
        os.environ["LIPSTREAM_TLS_CA"] = self.cert
        self.assertEqual(service.connect("").negotiate(), "fake")
        self.assertEqual(service.connect("").other("", []).negotiate(), "fake")
        os.environ["LIPSTREAM_TLS_CA"] = self.key
        with self.assertRaisesRegex(client.Failure, "LIPSTREAM_TLS_CERT and LIPSTREAM_TLS_KEY cannot be used: "):
            service.connect("")

    def test_certificate_of_the_client(self):
        self.context.verify_mode = ssl.CERT_REQUIRED
        os.environ.update(LIPSTREAM_SERVER=self.url, LIPSTREAM_TLS_CA=self.cert)
        with self.assertRaises(client.Failure):  # Lost, if the reason does not arrive
            service.connect("")
        os.environ.update(LIPSTREAM_TLS_CERT=self.cert, LIPSTREAM_TLS_KEY=self.key)
        self.assertEqual(service.connect("").negotiate(), "fake")
        # The address in a workflow gets no certificate.
        os.environ["LIPSTREAM_SERVER"] = "https://another.invalid"
        with mock.patch.object(service, "LOOPBACK", ()), self.assertRaisesRegex(client.Failure, "is not trusted"):
            service.connect(self.url)


if __name__ == "__main__":
    unittest.main()
