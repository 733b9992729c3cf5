"""What ranks do in the tests of hccl.processes: code for the fixture `ranks`."""

# Says its process number in a file; `rank` is its number, under HCCL and under Horovod.
BEGIN = """
import os, signal, subprocess, sys, time
rank = os.environ.get('RANK_ID') or os.environ.get('HOROVOD_RANK', '0')
def say_pid(name, pid):
    with open('%s_%s.new' % (name, rank), 'w') as file:
        file.write(str(pid))
    os.rename('%s_%s.new' % (name, rank), '%s_%s.pid' % (name, rank))
"""
CHECKPOINT = """
def checkpoint(number, frame):
    time.sleep(0.5)
    open('checkpoint_' + rank, 'w').write(str(number))
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, checkpoint)
signal.signal(signal.SIGINT, checkpoint)
say_pid('rank', os.getpid())
while True:
    time.sleep(0.05)
"""
STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say_pid('rank', os.getpid())
while True:
    time.sleep(0.05)
"""
WITH_CHILDREN = """
code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); '
code += 'print(1, flush=True); time.sleep(60)'
child = subprocess.Popen([sys.executable, '-S', '-c', code], stdout=subprocess.PIPE)
child.stdout.readline()
say_pid('child', child.pid)
say_pid('rank', os.getpid())
"""
