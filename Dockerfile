# Not built anywhere yet. Computes on the CPU; for CUDA: --build-arg TORCH_INDEX=
#   docker build -t simgan . && docker run --rm -v "$PWD:/data" -u "$(id -u):$(id -g)" simgan doctor
FROM python:3.13-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY . /src
RUN pip install --no-cache-dir '/src[gaze,plots,renders]'
# The user that -u names has no home, so the cache goes to a folder that everybody may write to.
ENV XDG_CACHE_HOME=/tmp/cache
WORKDIR /data
ENTRYPOINT ["simgan"]
CMD ["--help"]
