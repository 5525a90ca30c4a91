#!/bin/bash
# A sweep on four machines of a Slurm cluster: sbatch slurm.sh; sbatch it again to go on after the time is up.
# The repository, its .venv (make setup; .venv/bin/pip install -e '.[cluster]'), runs and datasets lie on a folder that
# every machine sees. Ray (2.49 or newer) starts itself on all of them, runs the command on the first, and ends.
#SBATCH --job-name=gendyn
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-task=1
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120

cd "$SLURM_SUBMIT_DIR" || exit 1
export PATH="$PWD/.venv/bin:$PATH" GENDYN_RUNS="$PWD/runs" GENDYN_DATA="$PWD/datasets" RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_MODE=token # so that only those with the file that this makes can run anything on it
ray get-auth-token --generate >/dev/null
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus 1 -- \
  gendyn sweep 01_random_labels --profile full --grid q=0:1:0.1 network=alexnet_small,inception_small seed=0..4 \
  --engine ray --address auto --gpus-per-run 0.25
