# control: yes
import os


def attempt():
    open("program", "w").close()
    os.chmod("program", 0o4755)
    return "escaped" if os.stat("program").st_mode & 0o4000 else "no"
