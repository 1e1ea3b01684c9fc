"""Execute a kernel: every instruction once for all lanes of all programs that walk together.

A register is an array ``(programs, lanes)``, with 1 for a size along which it does not vary.
Programs that take different sides of a branch part and walk on separately: none ever waits for
another, as on a card, where nothing says in which order programs run. Lanes of one program do not
part. Triton's kernels branch on what all lanes agree about, and anything else is a finding.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ops.ptx.arithmetic import TYPES, Unsupported, as_type, constant, operation
from ops.ptx.findings import Findings, Threads
from ops.ptx.memory import EXISTS, MAY_BE_WRITTEN, Clock, Memory
from ops.ptx.parsing import Address, Instruction, Kernel, Operand

__all__ = ["Machine", "Program"]

Lanes = NDArray[Any]
WARP = 32

PARAMETER_BYTES = 16
"""From the address of one parameter to that of the next: no parameter is longer."""

_WIDTHS = {"r": 4, "f": 4, "rd": 8, "fd": 8, "rs": 2, "h": 2}
"""Bytes of a register, by the letters of its name; predicates are apart."""


class Party:
    """Programs that walk together, and their registers."""

    def __init__(
        self, programs: NDArray[np.int32], lanes: int, registers: dict[str, Lanes]
    ) -> None:
        self.programs = programs
        self.registers = registers
        self.clock = Clock(lanes // WARP)
        self.at = 0
        self.shape = (len(programs), lanes)
        self.threads = Threads(
            np.repeat(programs, lanes),
            np.tile(np.arange(lanes, dtype=np.int32), len(programs)),
        )

    def read(self, register: str) -> Lanes:
        try:
            return self.registers[register]
        except KeyError:
            raise ValueError(f"register {register} is read before it is written") from None

    def by_thread(self, value: Lanes) -> Lanes:
        """Return the value of each thread, along one axis."""
        return np.broadcast_to(value, self.shape).ravel()

    def part(self, leaving: NDArray[np.bool_], at: int) -> "tuple[Party, Party]":
        """Return the programs that go on with the next instruction, and those that go to ``at``."""
        return self._choose(~leaving, self.at + 1), self._choose(leaving, at)

    def _choose(self, rows: NDArray[np.bool_], at: int) -> "Party":
        programs = len(self.programs)
        registers = {
            name: value[rows] if len(value) == programs else value
            for name, value in self.registers.items()
        }
        chosen = Party(self.programs[rows], self.shape[1], registers)
        chosen.clock = self.clock.copy()
        chosen.at = at
        return chosen


class Program(NamedTuple):
    """A kernel whose instructions have been looked up."""

    kernel: Kernel
    steps: list["Step"]
    constants: dict[str, Lanes]
    granule: int
    """Bytes of its narrowest access to memory."""

    @classmethod
    def of(cls, kernel: Kernel) -> "Program":
        """Look up the instructions.

        Raises:
            Unsupported: the emulator does not know one of them.
        """
        binding = _Binding(kernel)
        steps = [binding.step(instruction) for instruction in kernel.instructions]
        return cls(kernel, steps, binding.constants, binding.granule)


class Machine:
    """One launch: the memory that it sees, and what is found."""

    def __init__(
        self,
        program: Program,
        parameters: Mapping[str, int],
        memory: Memory,
        grid: tuple[int, int, int],
        lanes: int,
        shared_bytes: int,
    ) -> None:
        self.program = program
        self.parameters = parameters
        self.memory = memory
        self.grid = grid
        self.lanes = lanes
        self.findings = Findings(program.kernel.name)
        self.executed = 0
        """Instructions, each counted once for all programs of a party."""
        self.shared_bytes = shared_bytes
        # Each program's own, one after another; what lies between belongs to nobody.
        self.shared_stride = -(-shared_bytes // 256) * 256 + 256
        self.shared = Memory("shared", self.programs * self.shared_stride, program.granule)
        own = self.shared.state.reshape(self.programs, -1)
        own[:, : shared_bytes // program.granule] = EXISTS | MAY_BE_WRITTEN

    @property
    def programs(self) -> int:
        width, height, depth = self.grid
        return width * height * depth

    def run(self) -> None:
        """Execute all programs to their end."""
        programs = np.arange(self.programs, dtype=np.int32)
        waiting = [Party(programs, self.lanes, self._first_registers(programs))]
        steps = self.program.steps
        with np.errstate(all="ignore"):
            while waiting:
                party = waiting.pop()
                while party.at < len(steps):
                    parties = steps[party.at](party, self)
                    self.executed += 1
                    if parties is None:
                        party.at += 1
                    else:
                        party, *others = parties
                        waiting += others

    def _first_registers(self, programs: NDArray[np.int32]) -> dict[str, Lanes]:
        width, height, _ = self.grid
        place = {
            "x": programs % width,
            "y": programs // width % height,
            "z": programs // (width * height),
        }
        lanes = np.arange(self.lanes, dtype=np.uint32)[None]
        nothing = np.zeros((1, 1), np.uint32)
        return {
            **self.program.constants,
            "%tid.x": lanes,
            "%tid.y": nothing,
            "%tid.z": nothing,
            "%laneid": lanes % WARP,
            "%warpid": lanes // WARP,
            "%ntid.x": nothing + np.uint32(self.lanes),
            **{f"%ctaid.{axis}": row[:, None].astype(np.uint32) for axis, row in place.items()},
            **{
                f"%nctaid.{axis}": nothing + np.uint32(size)
                for axis, size in zip("xyz", self.grid, strict=True)
            },
        }


Parties = tuple[Party, ...]
Step = Callable[[Party, Machine], Parties | None]
"""Executes an instruction; returns the parties that go on, unless all do with the next one."""


class _Binding:
    """Looks up instructions: what they compute, and the registers they take."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.constants: dict[str, Lanes] = {}
        self.granule = 4

    def step(self, instruction: Instruction) -> Step:
        name = instruction.opcode.split(".")[0]
        return _KINDS.get(name, _compute)(instruction, self)

    def register(self, operand: Operand, dtype: np.dtype[Any]) -> str:
        """Return the name under which an operand is kept: a literal is a register that is set."""
        if not isinstance(operand, str):
            raise Unsupported(f"{operand} in place of a register")
        if operand.startswith("%"):
            return operand
        name = f"{operand} as {dtype}"
        literal = operand
        if operand == "global_smem":
            literal = "0"
        elif operand in self.kernel.parameters:
            literal = str(PARAMETER_BYTES * list(self.kernel.parameters).index(operand))
        self.constants[name] = constant(literal, dtype)
        return name

    def base(self, address: Address) -> str:
        return self.register(address.base, TYPES["u64"])

    def target(self, instruction: Instruction) -> int:
        label = instruction.operands[-1]
        return self.kernel.labels[str(label)]


def _registers(operand: Operand) -> tuple[str, ...]:
    if isinstance(operand, Address):
        raise Unsupported(f"{operand} in place of registers")
    return (operand,) if isinstance(operand, str) else operand


def _put(party: Party, instruction: Instruction, register: str, value: Lanes) -> None:
    """Write a register, in the lanes whose guard allows it, extended to its width."""
    letters = register.strip("%0123456789")
    width = _WIDTHS.get(letters)
    if width is not None and value.dtype.itemsize < width:
        value = value.astype(f"{'i' if value.dtype.kind == 'i' else 'u'}{width}")
    if instruction.guard is not None:
        if register in party.registers:
            before = as_type(party.read(register), value.dtype)
        else:
            before = _left_open(value.dtype)
        value = np.where(_active(party, instruction), value, before)
    party.registers[register] = value


def _left_open(dtype: np.dtype[Any]) -> Lanes:
    """Return what stands where the compiler wrote nothing: all ones, no number in any format."""
    return np.full((1, 1), -1).astype(f"i{dtype.itemsize}").view(dtype)


def _active(party: Party, instruction: Instruction) -> NDArray[np.bool_]:
    """Which lanes execute a guarded instruction."""
    guard = party.read(instruction.guard or "")
    return ~guard if instruction.negated else guard


def _compute(instruction: Instruction, binding: _Binding) -> Step:
    """Arithmetic: one result of several operands."""
    to, *operands = instruction.operands
    found = operation(instruction.opcode)
    if len(operands) > len(found.takes):
        found = found.of_three()
    (destination,) = _registers(to)
    sources = [
        binding.register(operand, dtype)
        for operand, dtype in zip(operands, found.takes, strict=True)
    ]

    def step(party: Party, machine: Machine) -> None:
        value = found(*[party.read(source) for source in sources])
        _put(party, instruction, destination, value)

    return step


def _move(instruction: Instruction, binding: _Binding) -> Step:
    """``mov``, which also splits a register into several and joins several into one."""
    to, source = instruction.operands
    if isinstance(to, tuple):
        return _split(instruction, to, _registers(source)[0])
    if isinstance(source, tuple):
        return _join(instruction, to, source, binding)
    return _compute(instruction, binding)


def _split(instruction: Instruction, parts: tuple[str, ...], source: str) -> Step:
    def step(party: Party, machine: Machine) -> None:
        whole = party.read(source)
        width = whole.dtype.itemsize // len(parts)
        pieces = np.ascontiguousarray(whole).view(f"u{width}").reshape(*whole.shape, len(parts))
        for i, part in enumerate(parts):
            if part != "_":
                _put(party, instruction, part, np.ascontiguousarray(pieces[..., i]))

    return step


def _join(instruction: Instruction, to: Operand, parts: tuple[str, ...], binding: _Binding) -> Step:
    (destination,) = _registers(to)
    whole = TYPES[instruction.opcode.split(".")[-1]]
    part_type = np.dtype(f"u{whole.itemsize // len(parts)}")
    sources = [binding.register(part, part_type) for part in parts]

    def piece(party: Party, source: str) -> Lanes:
        """Read a part, which the compiler may have left open."""
        if source not in party.registers:
            return _left_open(part_type)
        return as_type(party.read(source), part_type)

    def step(party: Party, machine: Machine) -> None:
        pieces = [piece(party, source) for source in sources]
        joined = np.stack(np.broadcast_arrays(*pieces), -1)
        _put(party, instruction, destination, joined.view(whole)[..., 0])

    return step


class _Access(NamedTuple):
    """What a load or store asks for."""

    dtype: np.dtype[Any]
    shared: bool
    base: str
    offset: int

    @classmethod
    def of(cls, instruction: Instruction, address: Operand, binding: _Binding) -> "_Access":
        words = instruction.opcode.split(".")
        if not isinstance(address, Address) or not {"global", "shared"} & set(words):
            raise Unsupported(f"the emulator does not know the access {instruction.text}")
        dtype = TYPES[words[-1]]
        binding.granule = min(binding.granule, dtype.itemsize)
        return cls(dtype, "shared" in words, binding.base(address), address.offset)

    def memory(self, machine: Machine) -> Memory:
        return machine.shared if self.shared else machine.memory

    def addresses(self, party: Party, machine: Machine) -> NDArray[np.int64]:
        """Return the address of each thread."""
        base = party.read(self.base)
        address = party.by_thread(base.astype(np.int64)) + self.offset
        return self.within(address, party, machine)

    def within(
        self, address: NDArray[np.int64], party: Party, machine: Machine
    ) -> NDArray[np.int64]:
        """Turn addresses of shared memory into those of the memory that all programs lie in."""
        if not self.shared:
            return address
        inside = (address >= 0) & (address < machine.shared_stride)
        own = party.threads.programs.astype(np.int64) * machine.shared_stride
        return np.where(inside, address + own, -1)


def _load(instruction: Instruction, binding: _Binding) -> Step:
    to, address = instruction.operands
    destinations = _registers(to)
    if "param" in instruction.opcode.split("."):
        return _load_parameter(instruction, destinations, address)
    access = _Access.of(instruction, address, binding)

    def step(party: Party, machine: Machine) -> None:
        addresses = access.addresses(party, machine)
        threads = party.threads
        active = None
        if instruction.guard is not None:
            active = party.by_thread(_active(party, instruction))
            addresses = addresses[active]
            threads = threads.where(active)
        loaded = access.memory(machine).load(
            addresses,
            access.dtype,
            len(destinations),
            threads,
            party.clock,
            instruction,
            machine.findings,
        )
        for register, value in zip(destinations, loaded, strict=True):
            if register != "_":
                _put(party, instruction, register, _everywhere(value, active).reshape(party.shape))

    return step


def _everywhere(value: Lanes, active: NDArray[np.bool_] | None) -> Lanes:
    """Spread the values of the active threads over all."""
    if active is None:
        return value
    spread = np.zeros(len(active), value.dtype)
    spread[active] = value
    return spread


def _load_parameter(
    instruction: Instruction, destinations: tuple[str, ...], address: Operand
) -> Step:
    dtype = TYPES[instruction.opcode.split(".")[-1]]
    if not isinstance(address, Address) or len(destinations) != 1:
        raise Unsupported(f"the emulator does not know the parameter of {instruction.text}")
    if address.base.startswith("%"):
        return _load_chosen_parameter(instruction, destinations[0], address, dtype)

    def step(party: Party, machine: Machine) -> None:
        value = machine.parameters[address.base] >> 8 * address.offset
        _put(party, instruction, destinations[0], constant(str(value), dtype))

    return step


def _load_chosen_parameter(
    instruction: Instruction, destination: str, address: Address, dtype: np.dtype[Any]
) -> Step:
    """Load one of several parameters: the kernel chose between their addresses."""

    def step(party: Party, machine: Machine) -> None:
        places = party.read(address.base).astype(np.int64) + address.offset
        value = np.zeros(places.shape, dtype)
        for place in np.unique(places):
            number, offset = divmod(int(place), PARAMETER_BYTES)
            bits = list(machine.parameters.values())[number] >> 8 * offset
            value[places == place] = constant(str(bits), dtype).item()
        _put(party, instruction, destination, value)

    return step


def _store(instruction: Instruction, binding: _Binding) -> Step:
    address, values = instruction.operands
    access = _Access.of(instruction, address, binding)
    sources = [binding.register(value, access.dtype) for value in _registers(values)]

    def step(party: Party, machine: Machine) -> None:
        addresses = access.addresses(party, machine)
        stored = [party.by_thread(as_type(party.read(name), access.dtype)) for name in sources]
        threads = party.threads
        if instruction.guard is not None:
            active = party.by_thread(_active(party, instruction))
            addresses = addresses[active]
            stored = [value[active] for value in stored]
            threads = threads.where(active)
        access.memory(machine).store(
            addresses, stored, threads, party.clock, instruction, machine.findings
        )

    return step


def _matrix_addresses(
    access: _Access, matrix: int, party: Party, machine: Machine
) -> NDArray[np.int64]:
    """Return where a lane's two values of a matrix lie, 8 rows of 8 values of 16 bits.

    Lane ``8 matrix + i`` of a warp holds the address of row ``i``. Lane ``l`` has columns
    ``2 (l % 4)`` and the next of row ``l // 4``.
    """
    lane = np.arange(party.shape[1])
    holder = lane // WARP * WARP + 8 * matrix + lane % WARP // 4
    base = np.broadcast_to(party.read(access.base), party.shape).astype(np.int64)
    address = base[:, holder] + access.offset + 4 * (lane % 4)
    return access.within(address.ravel(), party, machine)


def _matrix_access(instruction: Instruction, address: Operand, binding: _Binding) -> _Access:
    words = instruction.opcode.split(".")
    is_store = words[0] == "stmatrix"
    transposed_store = is_store and "trans" in words
    if transposed_store or "m8n8" not in words or instruction.guard is not None:
        raise Unsupported(f"the emulator does not know the access {instruction.text}")
    return _Access.of(instruction, address, binding)._replace(dtype=TYPES["b32"])


def _load_matrices(instruction: Instruction, binding: _Binding) -> Step:
    to, address = instruction.operands
    destinations = _registers(to)
    access = _matrix_access(instruction, address, binding)

    if "trans" in instruction.opcode.split("."):
        return _load_transposed_matrices(instruction, destinations, access)

    def step(party: Party, machine: Machine) -> None:
        for matrix, register in enumerate(destinations):
            (value,) = machine.shared.load(
                _matrix_addresses(access, matrix, party, machine),
                access.dtype,
                1,
                party.threads,
                party.clock,
                instruction,
                machine.findings,
            )
            _put(party, instruction, register, value.reshape(party.shape))

    return step


def _load_transposed_matrices(
    instruction: Instruction, destinations: tuple[str, ...], access: _Access
) -> Step:
    """Lane ``l`` gets rows ``2 (l % 4)`` and the next of column ``l // 4``."""
    halves = access._replace(dtype=TYPES["b16"])

    def step(party: Party, machine: Machine) -> None:
        lane = np.arange(party.shape[1])
        base = np.broadcast_to(party.read(access.base), party.shape).astype(np.int64)
        for matrix, register in enumerate(destinations):
            pair = []
            for next_row in range(2):
                holder = lane // WARP * WARP + 8 * matrix + 2 * (lane % 4) + next_row
                address = base[:, holder] + access.offset + 2 * (lane % WARP // 4)
                (value,) = machine.shared.load(
                    halves.within(address.ravel(), party, machine),
                    halves.dtype,
                    1,
                    party.threads,
                    party.clock,
                    instruction,
                    machine.findings,
                )
                pair.append(value.reshape(party.shape).astype(np.uint32))
            _put(party, instruction, register, pair[0] | pair[1] << np.uint32(16))

    return step


def _store_matrices(instruction: Instruction, binding: _Binding) -> Step:
    address, values = instruction.operands
    access = _matrix_access(instruction, address, binding)
    sources = _registers(values)

    def step(party: Party, machine: Machine) -> None:
        for matrix, register in enumerate(sources):
            value = party.by_thread(as_type(party.read(register), access.dtype))
            machine.shared.store(
                _matrix_addresses(access, matrix, party, machine),
                [value],
                party.threads,
                party.clock,
                instruction,
                machine.findings,
            )

    return step


_SHUFFLES: dict[str, Callable[[Lanes, Lanes], Lanes]] = {
    "idx": lambda lane, b: b,
    "bfly": lambda lane, b: lane ^ b,
    "up": lambda lane, b: np.where(lane >= b, lane - b, lane),
    "down": lambda lane, b: np.where(lane + b < WARP, lane + b, lane),
}
"""Which lane of a warp a lane reads, by the kind of shuffle."""


def _shuffle(instruction: Instruction, binding: _Binding) -> Step:
    """``shfl.sync`` within whole warps of which all lanes take part."""
    to, value, other, clamp, everyone = instruction.operands
    kind = instruction.opcode.split(".")[2]
    whole = clamp == ("0" if kind == "up" else "31") and everyone in ("-1", "0xffffffff")
    if instruction.guard is not None or not whole:
        raise Unsupported(f"the emulator does not know the shuffle {instruction.text}")
    (destination,) = _registers(to)
    source = binding.register(value, TYPES["b32"])
    which = binding.register(other, TYPES["u32"])

    def step(party: Party, machine: Machine) -> None:
        thread = np.arange(party.shape[1])
        lane = _SHUFFLES[kind](thread % WARP, party.read(which).astype(np.int64)) % WARP
        read = np.broadcast_to(thread // WARP * WARP + lane, party.shape)
        values = np.broadcast_to(party.read(source), party.shape)
        _put(party, instruction, destination, np.take_along_axis(values, read, 1))

    return step


def _reduce(instruction: Instruction, binding: _Binding) -> Step:
    """``redux.sync``: the largest or smallest float of whole warps, in every lane of them."""
    to, value, everyone = instruction.operands
    words = instruction.opcode.split(".")
    if instruction.guard is not None or words[3:] != ["f32"] or words[2] not in _REDUCTIONS:
        raise Unsupported(f"the emulator does not know the reduction {instruction.text}")
    (destination,) = _registers(to)
    source = binding.register(value, TYPES["f32"])
    members = binding.register(everyone, TYPES["u32"])
    most = _REDUCTIONS[words[2]]

    def step(party: Party, machine: Machine) -> None:
        if np.any(as_type(party.read(members), TYPES["u32"]) != 0xFFFFFFFF):
            raise Unsupported(f"the emulator does not know {instruction.text} of some lanes")
        values = np.broadcast_to(as_type(party.read(source), TYPES["f32"]), party.shape)
        by_warp = most.reduce(values.reshape(len(values), -1, WARP), axis=2)
        _put(party, instruction, destination, np.repeat(by_warp, WARP, axis=1))

    return step


_REDUCTIONS: dict[str, np.ufunc] = {"max": np.fmax, "min": np.fmin}


def _barrier(instruction: Instruction, binding: _Binding) -> Step:
    if instruction.guard is not None:
        raise Unsupported(f"the emulator does not know the barrier {instruction.text}")
    whole_program = "warp" not in instruction.opcode

    def step(party: Party, machine: Machine) -> None:
        party.clock.barrier(whole_program)

    return step


def _branch(instruction: Instruction, binding: _Binding) -> Step:
    return _jump(instruction, binding.target(instruction))


def _return(instruction: Instruction, binding: _Binding) -> Step:
    return _jump(instruction, len(binding.kernel.instructions))


def _jump(instruction: Instruction, target: int) -> Step:
    def step(party: Party, machine: Machine) -> Parties | None:
        if instruction.guard is None:
            party.at = target
            return (party,)
        taken = np.broadcast_to(_active(party, instruction), party.shape)
        divided = taken != taken[:, :1]
        machine.findings.add(
            "divergent branch",
            instruction,
            party.threads,
            divided.ravel(),
            "lanes of one program part",
        )
        leaving = taken[:, 0]
        if not leaving.any():
            return None
        if leaving.all():
            party.at = target
            return (party,)
        return party.part(leaving, target)

    return step


_KINDS: dict[str, Callable[[Instruction, _Binding], Step]] = {
    "mov": _move,
    "ld": _load,
    "st": _store,
    "ldmatrix": _load_matrices,
    "stmatrix": _store_matrices,
    "shfl": _shuffle,
    "redux": _reduce,
    "bar": _barrier,
    "barrier": _barrier,
    "bra": _branch,
    "ret": _return,
    "exit": _return,
}
"""How an instruction is looked up that does more than compute."""
