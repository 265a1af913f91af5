import os, socket, sys, time

number = lambda name: int(os.environ[name])
rank, size = number("RANK"), number("WORLD_SIZE")
assert rank == number("NODE_RANK") * number("LOCAL_WORLD_SIZE") + number("LOCAL_RANK")
assert number("SLURM_PROCID") == rank if "SLURM_JOB_ID" in os.environ else True
place = (os.environ["MASTER_ADDR"], number("MASTER_PORT"))
about = f"{rank} on {os.environ.get('SLURMD_NODENAME', 'here')}"
print("this is", rank)
if rank == 0:
    server = socket.create_server(("", place[1]))
    seen = [about]
    for _ in range(size - 1):
        peer, _ = server.accept()
        seen.append(peer.makefile().readline().strip())
    open(sys.argv[1], "w").write("\n".join(sorted(seen)) + "\n")
else:
    while True:
        try:
            peer = socket.create_connection(place)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    peer.sendall(f"{about}\n".encode())
