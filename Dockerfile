# CPU image: training in one or several processes, export, tests. Not built where this was written; its steps were run outside Docker.
#   docker build -t vision .          docker run --rm -it -v "$PWD/data:/suite/data" -v "$PWD/runs:/suite/runs" vision bash
# Behind a firewall: --build-arg UV_INDEX_URL=https://... --build-arg UV_PYTHON_INSTALL_MIRROR=https://...
FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl g++ make procps python3-pip \
    && rm -rf /var/lib/apt/lists/*
ARG UV_INDEX_URL UV_PYTHON_INSTALL_MIRROR
WORKDIR /suite
COPY setup.sh requirements.txt requirements-horovod.txt requirements-ascend.txt ./
RUN ./setup.sh --horovod
COPY . .
ENV PATH=/suite/.venv/bin:$PATH
CMD ["./quickstart.sh"]
