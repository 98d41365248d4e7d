#!/usr/bin/env bash
# A throw-away REAL Slurm cluster on one host, as root, without systemd, cgroups or containers.
#   cluster.sh start DIR [NODES=2] [CPUS_PER_NODE=2]   then: export SLURM_CONF=DIR/slurm.conf
#   cluster.sh stop  DIR
# All of it (conf, keys, sockets, database, state, logs, pids) lives in DIR; /etc is not touched.
# Env: SLURM_TEST_PORT (first of NODES+2 ports on 127.0.0.1), ACCT=0 (no mariadbd/slurmdbd, hence no sacct),
# MAX_ARRAY (the longest array of jobs it takes).
set -euo pipefail
cmd=${1:?start|stop}; dir=$(realpath -m "${2:?dir}"); nodes=${3:-2}; cpus=${4:-2}
acct=${ACCT:-1}; max_array=${MAX_ARRAY:-1001}; port=${SLURM_TEST_PORT:-16817}
export SLURM_CONF=$dir/slurm.conf

bg() {  # bg NAME CMD...: run a daemon in its foreground mode, in its own session, and keep its pid
  local name=$1; shift
  setsid "$@" > "$dir/log/$name.out" 2>&1 < /dev/null &
  echo $! > "$dir/$name.pid"
}
until_ok() {  # until_ok SECONDS CMD...: poll
  local end=$((SECONDS + $1)); shift
  while [ $SECONDS -le $end ]; do timeout 5 "$@" > /dev/null 2>&1 && return 0; sleep .1; done
  echo "cluster.sh: gave up on: $*" >&2; tail -n 15 "$dir"/log/*.out >&2; stop; return 1
}
end() {  # end NAME...: TERM them all, then KILL what is left after 5 s
  local n p pids=()
  for n; do [ -f "$dir/$n.pid" ] && { pids+=("$(cat "$dir/$n.pid")"); rm -f "$dir/$n.pid"; }; done
  [ ${#pids[@]} = 0 ] && return 0
  kill "${pids[@]}" 2> /dev/null || true
  for p in "${pids[@]}"; do   # a zombie has no exe: do not wait for pid 1 to reap it
    for _ in $(seq 50); do readlink -q "/proc/$p/exe" > /dev/null || continue 2; sleep .1; done
    kill -9 "$p" 2> /dev/null || true
  done
}
conf() {
  local host acc; host=$(uname -n); host=${host%%.*}
  acc="AccountingStorageType=accounting_storage/none"
  [ "$acct" = 1 ] && acc="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + 1))
AccountingStoragePass=$dir/munge.sock"
  cat > "$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$dir/munge.sock,cred_expire=6
SlurmctldPort=$port
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pidfile
SlurmdPidFile=$dir/slurmd-%n.pidfile
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
$acc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
EnforcePartLimits=ALL
JobRequeue=1
MaxArraySize=$max_array
KillWait=2
SlurmdTimeout=8
ReturnToService=1
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 2))-$((port + 1 + nodes))] CPUs=$cpus RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  # null devices in the place of /dev/nvidia0 and 1: enough for --gpus-per-node and CUDA_VISIBLE_DEVICES
  mknod "$dir/gpu0" c 1 3; mknod "$dir/gpu1" c 1 3
  echo "Name=gpu File=$dir/gpu[0-1]" > "$dir/gres.conf"
  cat > "$dir/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$dir/munge.sock
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=$((port + 1))
SlurmUser=root
PidFile=$dir/slurmdbd.pidfile
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
CONF
  chmod 600 "$dir/slurmdbd.conf"
}
all_idle() { [ "$(sinfo -h -N -t idle -o %N | wc -l)" = "$nodes" ]; }
no_jobs() { [ -z "$(squeue -h)" ]; }
export -f all_idle no_jobs; export nodes

start() {
  mkdir -p "$dir"/{state,log,spool,tmp}; chmod 755 "$dir"
  conf
  (umask 077; head -c 128 /dev/urandom > "$dir/munge.key")
  bg munged munged --foreground --force --key-file="$dir/munge.key" --socket="$dir/munge.sock" \
    --pid-file="$dir/munged.pidfile" --log-file="$dir/log/munged.log" --seed-file="$dir/munge.seed"
  until_ok 60 test -S "$dir/munge.sock"
  if [ "$acct" = 1 ]; then
    # A tmpdir of its own: as it starts, mariadbd removes the temporary tables of any other in the same one.
    local db=(--no-defaults --user=root --datadir="$dir/db" --tmpdir="$dir/tmp" --innodb-log-file-size=8M --innodb-buffer-pool-size=16M)
    mariadb-install-db "${db[@]}" --skip-test-db --auth-root-authentication-method=normal > "$dir/log/db-install.out" 2>&1 ||
      { cat "$dir/log/db-install.out" >&2; return 1; }
    bg mariadbd mariadbd "${db[@]}" --skip-networking --socket="$dir/db.sock" --pid-file="$dir/mariadbd.pidfile"
    until_ok 60 test -S "$dir/db.sock"
    MYSQL_UNIX_PORT=$dir/db.sock bg slurmdbd slurmdbd -D
    until_ok 60 sacctmgr -n show cluster
  fi
  bg slurmctld slurmctld -D -i
  for i in $(seq "$nodes"); do bg "slurmd-n$i" slurmd -D -N "n$i"; done
  until_ok 90 bash -c all_idle
  sinfo
}
stop() {
  if [ -f "$dir/slurmctld.pid" ]; then   # jobs first: else their slurmstepd's outlive the cluster
    timeout 5 scancel -u "$(id -un)" || true; timeout 5 scancel -s KILL -u "$(id -un)" || true
    for _ in $(seq 100); do timeout 5 bash -c no_jobs && break; sleep .1; done
  fi
  end $(cd "$dir" && ls slurmd-*.pid 2> /dev/null | sed 's/\.pid$//') slurmctld
  end slurmdbd; end mariadbd; end munged
}
"$cmd"
