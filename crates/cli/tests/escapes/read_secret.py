# control: yes
def attempt():
    return open(FOLDER + "/secret").read() and "escaped"
