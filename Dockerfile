# A server for one model, which is mounted at /models/model; compose.yaml runs it with a health check.
#
# The decoders take little by themselves, and compose.yaml takes away more: root, capabilities, a writable disk.
# For a smaller image without CUDA, name PyTorch's index of CPU builds: --build-arg PIP_EXTRA_INDEX_URL=...
FROM python:3.13-slim

ARG PIP_EXTRA_INDEX_URL
ARG PIP_NO_CACHE_DIR=1
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY src ./src

RUN python -m pip install '.[serve]'
RUN python -m compileall -q src && python -c "import tubelet; print(tubelet.__version__)"

USER 10001:10001
ENV HOME=/tmp
EXPOSE 8000

CMD ["tubelet", "serve", "/models/model", "--host", "0.0.0.0", "--port", "8000"]
