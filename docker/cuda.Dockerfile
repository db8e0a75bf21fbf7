# Training and serving on NVIDIA GPUs. From the checkout: docker build -f docker/cuda.Dockerfile -t sdpo:cuda .
#   V="-v sdpo-data:/data -v sdpo-saves:/sdpo/LLaMA-Factory/saves -v sdpo-vllm:/sdpo/.venv-vllm"
#   docker run --rm --gpus all --shm-size 16g $V sdpo:cuda bash train.sh CONFIG.yaml key=value
# The host needs the NVIDIA container toolkit and a driver for CUDA 13. The compiler of the devel image is what DeepSpeed
# builds its optimizer with, on first use.
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends default-jre-headless ninja-build python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /sdpo
COPY . .
RUN SDPO_TORCH=cuda UV_NO_CACHE=1 bash setup.sh
ENV PATH=/sdpo/.venv/bin:$PATH SDPO_HOME=/data HF_HOME=/data/huggingface
# Episodes and pairs; models; vLLM's environment is made when something is served first.
VOLUME /data /sdpo/LLaMA-Factory/saves /sdpo/.venv-vllm
CMD ["bash", "train.sh"]
