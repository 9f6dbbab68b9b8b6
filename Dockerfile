# Our code on Dockerfile-base. It starts as a RunPod worker where RunPod hands out jobs, else as a container that serves
# HTTP on port 8000; every pipeline of templates/models.json is in it, and no weights but those of the demo models, which
# are a few MB and draw without a download.
#   docker build --platform linux/amd64 --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) -t pilotlight:0.1.0 .
#   docker run --rm --gpus all -p 8000:8000 -e PIPELINE=text-to-image -e MODEL_ID=stabilityai/sd-turbo \
#     -v pilotlight-models:/models pilotlight:0.1.0
#   docker run --rm --gpus all -v pilotlight-models:/models pilotlight:0.1.0 \
#     python3 -m platforms.runpod.worker --test_input '{"input": {"pipeline": "text-to-image", "prompt": "a lighthouse"}}'

ARG BASE_IMAGE=pilotlight-base:0.1.0
# hadolint ignore=DL3006 # the tag is in the argument
FROM ${BASE_IMAGE}

# The hub's cache is on the volume; what the hub's library writes beside it (logs, a login) is not worth one. On RunPod
# the template moves the cache to /runpod-volume. OMP_WAIT_POLICY: threads of llama.cpp and torch that wait for another
# sleep; where they spin, a core that something else uses makes them hundreds of times slower. SERVE_OPEN: without
# AUTH_TOKEN the container serves whoever reaches its port, which is for you to publish or not.
ENV PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/home/pilotlight/.cache/huggingface \
    HF_HUB_CACHE=/models \
    HF_HUB_DISABLE_PROGRESS_BARS=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    HF_XET_HIGH_PERFORMANCE=1 \
    OMP_WAIT_POLICY=PASSIVE \
    SERVE_OPEN=1 \
    RUNPOD_LOG_LEVEL=INFO \
    RUNPOD_MIN_CUDA_VERSION=13.0

# Before the code is there, so that it installs what `importlib.metadata` reads (receipts name the version) and the
# `pilotlight` command, and no second copy of our packages. What builds it, setuptools, came with torch.
COPY pyproject.toml LICENSE /opt/pilotlight/
RUN pip install --no-cache-dir --no-deps --no-build-isolation /opt/pilotlight

# Never /app/platforms on the path: `import modal` would find our folder.
WORKDIR /app
COPY handlers handlers/
COPY platforms platforms/
COPY shared shared/
COPY templates templates/
# chmod: files cloned under a strict umask keep their modes, and our user could not read them.
RUN chmod -R go+rX . && python3 -m compileall -q .

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pilotlight" \
      org.opencontainers.image.description="A RunPod serverless worker for open generative models" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

EXPOSE 8000
USER 10001:10001
# No shell and no base image's script in front: Python is process 1, and when it is killed the container ends with it,
# and with the container the SDK's ping process, which would go on calling the worker alive.
ENTRYPOINT []
CMD ["python3", "-m", "platforms.start"]
