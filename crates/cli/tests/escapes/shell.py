# control: yes
import subprocess


def attempt():
    return subprocess.run(["/bin/sh", "-c", "exit 0"]).returncode == 0 and "escaped"
