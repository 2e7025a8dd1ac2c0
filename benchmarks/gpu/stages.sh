#!/usr/bin/env bash
# Run adaptbench on one NVIDIA GPU in stages that each have a time limit, and print one table.
#
# Run: bash benchmarks/gpu/stages.sh          (in the root of a checkout; `make gpu` runs the GPU tests and then this)
#
# STAGES   which of: facts tests small big bare limits
#   facts   versions, card, energy counter, rates of matrix products, memory of optimizers and attention
#   tests   pytest -m gpu, beside the small runs
#   small   shipped model, bookrec: float32 and bfloat16; lora and full a second time; exported adapters
#   big     a random Llama of 2.07 billion weights in bfloat16: memory per phase beside the estimate, tokens per second
#   bare    the same rows in a bare loop, and plain `generate`
#   limits  float32; a limit of 15 GiB (a T4); a model that does not fit 4 GiB
# OUT      folder for log.txt and records.tar.gz;  WORK  folder for everything else
# LIMIT    seconds after which no stage begins
# DEVICE=cpu SCALE=5 and small sizes (below) rehearse everything on a CPU.
set -u
here=$(cd "$(dirname "$0")" && pwd)
OUT=${OUT:-/tmp/adaptbench-gpu/out} WORK=${WORK:-/tmp/adaptbench-gpu/work}
DEVICE=${DEVICE:-cuda} LIMIT=${LIMIT:-480} BENCH_NICE=${BENCH_NICE:-} SCALE=${SCALE:-1} TEST_WORKERS=${TEST_WORKERS:-4}
STAGES=${STAGES:-facts tests small big bare limits}
SMALL_BUDGET=${SMALL_BUDGET:-epochs=1} SMALL_ROWS=${SMALL_ROWS:-500}
BIG_BUDGET=${BIG_BUDGET:-steps=20,examples=320,new_tokens=16} BIG_ROWS=${BIG_ROWS:-96}
GROUPS_FLOAT32=${GROUPS_FLOAT32:-"few-shot,features,head lora,qlora full,prefix,prompt-tuning"}
GROUPS_BFLOAT16=${GROUPS_BFLOAT16:-"few-shot,lora qlora,full"}
REPEATED=${REPEATED:-lora,full} BIG_METHODS=${BIG_METHODS:-few-shot,lora,qlora,full}
FLOAT32_METHODS=${FLOAT32_METHODS:-lora,full} LIMITED_METHODS=${LIMITED_METHODS:-lora,full}
MEMORY=${MEMORY:-15GiB} TOO_LITTLE_MEMORY=${TOO_LITTLE_MEMORY:-4GiB}
mkdir -p "$OUT" "$WORK/small" "$WORK/large" "$WORK/logs"
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$PWD"
started=$(date +%s)
log=$OUT/log.txt

say() { echo "[$(($(date +%s) - started)) s] $*" | tee -a "$log"; }

# guard SECONDS NAME COMMAND...: the output goes to a file, and its end is shown if the command fails.
guard() {
  local limit=$(($1 * SCALE)) name=$2 status begin
  shift 2
  begin=$(date +%s)
  timeout -s INT -k 15 "$limit" $BENCH_NICE "$@" >"$WORK/logs/$name.log" 2>&1
  status=$?
  say "$name: exit $status after $(($(date +%s) - begin)) s"
  if [ $status -ne 0 ]; then tail -n 12 "$WORK/logs/$name.log" | cut -c1-300 | tee -a "$log"; fi
  return $status
}

has() {
  case " $STAGES " in *" $1 "*) ;; *) return 1 ;; esac
  if [ $(($(date +%s) - started)) -gt "$LIMIT" ]; then say "$1: left out, too late"; return 1; fi
}

# cut_task FOLDER ROWS: bookrec with its first test questions only.
cut_task() {
  [ -d "$1" ] && return
  cp -r tasks/bookrec "$1"
  head -n "$2" tasks/bookrec/test.jsonl >"$1/test.jsonl"
}

run() {
  local limit=$1 name=$2
  shift 2
  guard "$limit" "$name" python3 -m bench run --device "$DEVICE" --out "$WORK/$name" "$@"
}

show() { grep -hE "$1" "${@:2}" 2>/dev/null | tee -a "$log"; }
table() { python3 "$here/show_records.py" "$@" 2>&1 | tee -a "$log"; }

cut_task "$WORK/small/bookrec" "$SMALL_ROWS"
cut_task "$WORK/large/bookrec" "$BIG_ROWS"
model=$WORK/model
waited=()

if has facts; then
  guard 40 card nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
  guard 90 facts python3 "$here/facts.py"
  show . "$WORK/logs/card.log" "$WORK/logs/facts.log"
fi
if has tests; then
  guard 200 tests python3 -m pytest -v --tb=short -m gpu -n "$TEST_WORKERS" --dist loadfile -p no:cacheprovider tests/gpu &
  waited+=($!)
fi
if [ ! -f "$model/config.json" ] && { has big || has bare || has limits; }; then
  guard 150 model python3 "$here/make_model.py" "$model" &
  waited+=($!)
fi
small=()
if has small; then
  number=0
  export OMP_NUM_THREADS=$(($(nproc) >= 12 ? 3 : 1))
  for group in $GROUPS_FLOAT32; do
    number=$((number + 1)) && small+=("$WORK/float32_$number")
    run 200 "float32_$number" --methods "$group" --task "$WORK/small/bookrec" --budget "$SMALL_BUDGET" &
    waited+=($!)
  done
  for group in $GROUPS_BFLOAT16; do
    number=$((number + 1)) && small+=("$WORK/bfloat16_$number")
    run 200 "bfloat16_$number" --methods "$group" --task "$WORK/small/bookrec" --budget "$SMALL_BUDGET" \
      --dtype bfloat16 --save-artifacts &
    waited+=($!)
  done
  small+=("$WORK/repeated")
  run 200 repeated --methods "$REPEATED" --task "$WORK/small/bookrec" --budget "$SMALL_BUDGET" &
  waited+=($!)
fi
for id in "${waited[@]}"; do wait "$id"; done
unset OMP_NUM_THREADS
show '^(FAILED|ERROR|E  )|passed|failed|random model' "$WORK/logs/tests.log" "$WORK/logs/model.log"
if has small; then
  table "${small[@]}"
  for name in qlora lora; do
    record=$(ls "$WORK"/bfloat16_*/bookrec-"$name"-*.json 2>/dev/null | head -1)
    [ -n "$record" ] && guard 90 "export_$name" python3 -m bench export "$record" --to "$WORK/exported_$name" --check 16 &
  done
  wait
  tail -qn 3 "$WORK"/logs/export_*.log 2>/dev/null | tee -a "$log"
fi
if has big; then
  guard 60 models python3 -m bench models "$model" --dtype bfloat16 --tokens 256
  show '^ *(method|lora|qlora|full|few-shot|Peak)' "$WORK/logs/models.log"
  run 240 big --methods "$BIG_METHODS" --model "$model" --task "$WORK/large/bookrec" --budget "$BIG_BUDGET" --dtype bfloat16
  table "$WORK/big"
fi
if has bare; then
  guard 150 bare env CUBLAS_WORKSPACE_CONFIG=:4096:8 python3 "$here/bare_loop.py" "$model" bfloat16
  show '^bare' "$WORK/logs/bare.log"
fi
if has limits; then
  large=(--model "$model" --task "$WORK/large/bookrec")
  run 170 big_float32 --methods "$FLOAT32_METHODS" "${large[@]}" --budget "$BIG_BUDGET" &
  run 170 big_limited --methods "$LIMITED_METHODS" "${large[@]}" --budget "$BIG_BUDGET,memory=$MEMORY" &
  run 170 big_too_large --methods zero-shot "${large[@]}" --budget "$BIG_BUDGET,memory=$TOO_LITTLE_MEMORY" &
  wait
  table "$WORK"/big_float32 "$WORK"/big_limited "$WORK"/big_too_large
fi
(cd "$WORK" && tar czf "$OUT/records.tar.gz" logs $(find . -maxdepth 2 -name '*-s[0-9].json'))
say "done"
