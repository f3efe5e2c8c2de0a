#!/usr/bin/env bash
# Train on all GPUs of one node, or of several that can reach each other. Run it again to go on where it stopped.
#
#   launch/torchrun.sh                                        all GPUs here
#   NODES=4 HEAD=node-0:29500 launch/torchrun.sh              the same command on each of 4 nodes, with one HEAD
#   RECIPE=nano RUN=runs/nano GPUS=2 launch/torchrun.sh --execution.device cpu        two processes without a GPU
#
# Further arguments go to `remind train`. RUN, stores and latents must be the same folders on all nodes.
set -euo pipefail

RECIPE="${RECIPE:-wan_v2v}"
RUN="${RUN:-runs/$RECIPE}"
GPUS="${GPUS:-gpu}" # processes per node: a number, or gpu for all that are there
NODES="${NODES:-1}"
HEAD="${HEAD:-localhost:29500}" # host and free port of one of the nodes, where all of them meet

# SIGTERM and SIGUSR1 reach the training processes, which save and leave; a large model needs more than the usual 30 s.
export TORCHELASTIC_SIGNALS_TO_HANDLE="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-600}"

if [[ "$NODES" == 1 ]]; then
    meet=(--standalone)
else
    meet=(--nnodes "$NODES" --rdzv-backend c10d --rdzv-endpoint "$HEAD" --rdzv-id "${RUN//\//-}")
fi
resume=()
if compgen -G "$RUN/checkpoints/step-*" > /dev/null; then
    resume=(--resume)
fi

# Every process writes its own log; the first one of each node is shown as well. exec: signals go to torchrun.
mkdir -p "$RUN/logs"
exec torchrun "${meet[@]}" --nproc-per-node "$GPUS" --log-dir "$RUN/logs" --tee 3 --local-ranks-filter 0 \
    -m remind train "$RECIPE" --out "$RUN" ${resume[@]+"${resume[@]}"} "$@"
