# control: yes
import threading


def attempt():
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(100)]
    try:
        for thread in threads:
            thread.start()
    finally:
        end.set()
    return "escaped"
