# Everything on a CPU. From the checkout: docker build -f docker/cpu.Dockerfile -t sdpo:cpu .
#   V="-v sdpo-data:/data -v sdpo-saves:/sdpo/LLaMA-Factory/saves -v sdpo-vllm:/sdpo/.venv-vllm"
#   docker run --rm $V sdpo:cpu                                  trains the demo
#   docker run --rm -it $V -e OPENAI_API_KEY sdpo:cpu bash       the commands of the README
FROM python:3.11-slim-bookworm
# Java is for ScienceWorld alone; its package links into a folder that slim images may lack. libnuma is for vLLM.
# hadolint ignore=DL3008
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update \
    && apt-get install --yes --no-install-recommends default-jre-headless libnuma1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /sdpo
COPY . .
RUN SDPO_TORCH=cpu UV_NO_CACHE=1 bash setup.sh
ENV PATH=/sdpo/.venv/bin:$PATH SDPO_HOME=/data HF_HOME=/data/huggingface
# Episodes and pairs; models; vLLM's environment is made when something is served first.
VOLUME /data /sdpo/LLaMA-Factory/saves /sdpo/.venv-vllm
CMD ["bash", "train.sh"]
