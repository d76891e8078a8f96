# Images of Lipstream; docs/deploy.md.
#
#   docker build -t lipstream .                  for CPUs, with OpenVINO
#   docker build -t lipstream:cuda --target cuda .    for NVIDIA GPUs, with ONNX Runtime and CUDA 13
#   docker build -t lipstream:cuda12 --target cuda --build-arg CUDA=cuda12 .

ARG GO=golang:1.26-trixie
ARG BASE=debian:trixie-slim

# The program. The version and the commit come from .git, if it is in the context.
FROM ${GO} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /lipstream ./cmd/lipstream

# Lipstream downloads runtimes with pip, which the final image does not need.
FROM ${BASE} AS runtime
RUN apt-get update \
	&& apt-get install -y --no-install-recommends ca-certificates python3-pip \
	&& rm -rf /var/lib/apt/lists/*
COPY --from=build /lipstream /usr/local/bin/lipstream
ENV XDG_CACHE_HOME=/opt
RUN lipstream runtime install openvino

FROM runtime AS runtime-cuda
ARG CUDA=cuda13
RUN lipstream runtime install ${CUDA}

# What both images have in common.
FROM ${BASE} AS common
RUN apt-get update \
	&& apt-get install -y --no-install-recommends ca-certificates ffmpeg \
	&& rm -rf /var/lib/apt/lists/* \
	&& useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin lipstream \
	&& install -d -o 10001 -g 10001 /data
COPY --from=build /lipstream /usr/local/bin/lipstream
COPY LICENSE NOTICE /usr/share/doc/lipstream/
# Everything that is written goes to /data, so the root can be read-only. HOME is
# not needed.
ENV XDG_CACHE_HOME=/data \
	LIPSTREAM_RUNTIME_DIR=/opt/lipstream/runtimes
VOLUME /data
USER 10001:10001
WORKDIR /data
EXPOSE 8448 4222
STOPSIGNAL SIGTERM
ENTRYPOINT ["lipstream"]
CMD ["serve"]

FROM common AS cuda
COPY --from=runtime-cuda /opt/lipstream/runtimes /opt/lipstream/runtimes
# For NVIDIA's container toolkit, which adds the driver's libraries.
ENV NVIDIA_VISIBLE_DEVICES=all \
	NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM common AS cpu
COPY --from=runtime /opt/lipstream/runtimes /opt/lipstream/runtimes
