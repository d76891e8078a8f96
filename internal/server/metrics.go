package server

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics serves Prometheus. Jobs, workers and memory are read at every scrape.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	received prometheus.Counter
	s        *Server
}

func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), s: s,
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lipstream_http_request_seconds", Help: "Time of requests; streams of events count until they end.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"route", "code"}),
		received: prometheus.NewCounter(prometheus.CounterOpts{Name: "lipstream_upload_bytes_total", Help: "Bytes of uploads received."}),
	}
	m.registry.MustRegister(m.requests, m.received, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m)
	return m
}

func (m *metrics) serve(w http.ResponseWriter, r *http.Request) error {
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	return nil
}

var (
	jobsDesc      = prometheus.NewDesc("lipstream_jobs", "Jobs by state.", []string{"state"}, nil)
	listenersDesc = prometheus.NewDesc("lipstream_event_listeners", "Open streams of events.", nil, nil)
	storedDesc    = prometheus.NewDesc("lipstream_upload_stored_bytes", "Bytes of all uploads that are kept.", nil, nil)
	usedDesc      = prometheus.NewDesc("lipstream_memory_used_bytes", "Memory in use, by host, control group and GPU.", []string{"memory"}, nil)
	totalDesc     = prometheus.NewDesc("lipstream_memory_total_bytes", "Total memory.", []string{"memory"}, nil)
	levelDesc     = prometheus.NewDesc("lipstream_memory_level", "0 normal, 1 warning, 2 critical.", []string{"memory"}, nil)
	slotsDesc     = prometheus.NewDesc("lipstream_worker_slots", "Tasks that a worker can run at the same time.", []string{"worker"}, nil)
	busyDesc      = prometheus.NewDesc("lipstream_worker_busy", "Running tasks of a worker.", []string{"worker"}, nil)
	reservedDesc  = prometheus.NewDesc("lipstream_worker_reserved_bytes", "Memory promised to running tasks.", []string{"worker"}, nil)
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{jobsDesc, listenersDesc, storedDesc, usedDesc, totalDesc, levelDesc, slotsDesc, busyDesc, reservedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for state, n := range m.s.board.count() {
		gauge(jobsDesc, float64(n), string(state))
	}
	gauge(listenersDesc, float64(m.s.hub.count.Load()))
	m.s.uploads.mu.Lock()
	stored := m.s.uploads.stored
	m.s.uploads.mu.Unlock()
	gauge(storedDesc, float64(stored))
	for _, w := range m.s.o.Monitor.Now().Watched {
		gauge(usedDesc, float64(w.Used), w.Name)
		gauge(totalDesc, float64(w.Total), w.Name)
		gauge(levelDesc, float64(w.Level), w.Name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	workers, err := m.s.o.Queue.Workers(ctx)
	if err != nil {
		m.s.log.Warn("server: the metrics of workers are missing", "error", err)
	}
	for _, w := range workers {
		gauge(slotsDesc, float64(w.Slots), w.ID)
		gauge(busyDesc, float64(w.Busy), w.ID)
		gauge(reservedDesc, float64(w.Reserved), w.ID)
	}
}

// measure returns a handler that measures the time of requests.
func (m *metrics) measure(pattern string, next http.Handler) http.Handler {
	return promhttp.InstrumentHandlerDuration(m.requests.MustCurryWith(prometheus.Labels{"route": pattern}), next)
}
