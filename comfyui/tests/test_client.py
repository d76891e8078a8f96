"""Tests of the client that are not possible through a node."""

import os
import threading
import time
import unittest
from unittest import mock

from fake import Fake
from support import Clock, package, wait

client = package("client")


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


if __name__ == "__main__":
    unittest.main()
