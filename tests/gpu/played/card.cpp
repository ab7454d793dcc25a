// A GPU that is played by the CPU: torch's device "cuda" in a build that has none.
//
// Each operation of the device is computed by the CPU's kernel, in memory that torch takes for the GPU's.
// It is as late as a device can be: it is put into a queue, and runs when the host waits. What waits is
// an error where torch.cuda.set_sync_debug_mode would make it one, and while a graph is recorded.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

using at::IValue;
using at::IntArrayRef;
using at::Tensor;
using Ints = c10::SymIntArrayRef;
using Work = std::function<void()>;

// ---------------------------------------------------------------- the queue, and graphs

// (all of it outlives the process's last tensors)
static auto& lock = *new std::recursive_mutex;
static auto& queue = *new std::vector<Work>;  // what the device has still to do
static auto& graphs = *new std::map<int64_t, std::vector<Work>>;
static int64_t recording = 0;                      // which graph
static bool strict = false;                        // whether to wait is an error

extern "C" void card_synchronize() {
    std::lock_guard<std::recursive_mutex> held(lock);
    std::vector<Work> now;
    now.swap(queue);
    for (auto& work : now) work();
}

static void enqueue(Work work) {
    std::lock_guard<std::recursive_mutex> held(lock);
    if (recording) graphs[recording].push_back(work);
    queue.push_back(std::move(work));
    if (recording || queue.size() > 20000) card_synchronize();  // recorded: see card_begin
}

/* The host waits for the device. */
static void wait(const std::string& why) {
    TORCH_CHECK(!recording, "CUDA error: operation not permitted when stream is capturing (", why, ")");
    TORCH_CHECK(!strict, "called a synchronizing CUDA operation: ", why);
    card_synchronize();
}

// ---------------------------------------------------------------- memory: blocks go back to a pool

static auto& spare = *new std::multimap<size_t, void*>;
static auto& blocks = *new std::unordered_map<void*, size_t>;  // all there are
static auto& pinned = *new std::set<void*>;                    // of the host
static auto& recorded = *new std::set<void*>;                  // of graphs, which keep theirs

static void give_back(void* p) {
    std::lock_guard<std::recursive_mutex> held(lock);
    if (p && !recorded.count(p)) spare.emplace(blocks[p], p);
}

struct Pool final : c10::Allocator {
    c10::DataPtr allocate(size_t n) override {
        std::lock_guard<std::recursive_mutex> held(lock);
        size_t size = (n + 511) / 512 * 512;
        void* p = nullptr;
        if (auto found = spare.find(size); n && found != spare.end() && !recording) {
            p = found->second;
            spare.erase(found);
        } else if (n) {
            p = c10::alloc_cpu(size);
            memset(p, 0x7f, size);  // nobody is to count on zeros
            blocks[p] = size;
            if (recording) recorded.insert(p);
        }
        return {p, p, &give_back, c10::Device(c10::kCUDA, 0)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
    void copy_data(void* to, const void* from, size_t n) const override { memcpy(to, from, n); }
};
static auto& pool = *new Pool;

struct Pinned final : c10::Allocator {
    static void drop(void* p) {
        pinned.erase(p);
        c10::free_cpu(p);
    }
    c10::DataPtr allocate(size_t n) override {
        TORCH_CHECK(!recording, "CUDA error: operation not permitted when stream is capturing (cudaHostAlloc)");
        void* p = c10::alloc_cpu(n ? n : 1);
        pinned.insert(p);
        return {p, p, &drop, c10::Device(c10::kCPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &drop; }
    void copy_data(void* to, const void* from, size_t n) const override { memcpy(to, from, n); }
};
static auto& page_locked = *new Pinned;

// ---------------------------------------------------------------- what Python says

static auto& before = *new std::vector<std::pair<void*, std::vector<char>>>;

/* Record a graph: what is recorded runs too, so that later work sees sensible numbers, and is undone. */
extern "C" void card_begin(int64_t graph) {
    card_synchronize();
    before.clear();
    for (auto& [p, size] : blocks) before.emplace_back(p, std::vector<char>((char*)p, (char*)p + size));
    graphs[graph].clear();
    recording = graph;
}
extern "C" void card_end() {
    for (auto& [p, bytes] : before) memcpy(p, bytes.data(), bytes.size());
    before.clear();
    recording = 0;
}
extern "C" void card_replay(int64_t graph) {
    for (auto& work : graphs[graph]) enqueue(work);
}
extern "C" void card_strict(int on) { strict = on; }
extern "C" int card_is_recording() { return recording != 0; }

typedef void run_fn(void* kernel, const void* args, long blocks);
struct Function { run_fn* run; void* kernel; int64_t size; };  // size: of its arguments

static thread_local bool entered = false;  // whether this thread has a context: an operation gives it one
extern "C" void card_enter() { entered = true; }

/* cuLaunchKernel. */
extern "C" int card_launch(void* given, unsigned x, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                           void*, void** params, void**) {
    if (!entered) return 201;  // CUDA_ERROR_INVALID_CONTEXT
    auto f = (const Function*)given;
    std::vector<char> args((const char*)params[0], (const char*)params[0] + f->size);
    enqueue([=] { f->run(f->kernel, args.data(), x); });
    return 0;
}

// ---------------------------------------------------------------- torch's device

struct Guard final : c10::impl::DeviceGuardImplInterface {
    static c10::Device here() { return {c10::kCUDA, 0}; }
    static c10::Stream only() { return c10::Stream(c10::Stream::DEFAULT, here()); }
    c10::DeviceType type() const override { return c10::kCUDA; }
    c10::Device exchangeDevice(c10::Device) const override { return here(); }
    c10::Device getDevice() const override { return here(); }
    void setDevice(c10::Device) const override {}
    void uncheckedSetDevice(c10::Device) const noexcept override {}
    c10::Stream getStream(c10::Device) const override { return only(); }
    c10::Stream getDefaultStream(c10::Device) const override { return only(); }
    c10::Stream getNewStream(c10::Device, int) const override { return only(); }
    c10::Stream exchangeStream(c10::Stream s) const override { return s; }
    c10::DeviceIndex deviceCount() const noexcept override { return 1; }
    void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
    void block(void*, const c10::Stream&) const override {}
    bool queryEvent(void*) const override { return true; }
    void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
    bool queryStream(const c10::Stream&) const override { return true; }
    void synchronizeStream(const c10::Stream&) const override { card_synchronize(); }
    void synchronizeEvent(void*) const override { card_synchronize(); }
    void synchronizeDevice(const c10::DeviceIndex) const override { card_synchronize(); }
    void recordDataPtrOnStream(const c10::DataPtr&, const c10::Stream&) const override {}
};
static c10::impl::DeviceGuardImplRegistrar registrar(c10::kCUDA, new Guard());

static at::Generator& generator() {
    static auto& g = *new at::Generator(at::detail::createCPUGenerator());
    return g;
}
extern "C" void card_seed(uint64_t seed) { generator().set_current_seed(seed); }
extern "C" int64_t card_state(char* to, const char* from) {  // of the generator: its bytes, taken or set
    Tensor held = generator().get_state();
    if (to) memcpy(to, held.data_ptr(), held.nbytes());
    if (from) memcpy(held.data_ptr(), from, held.nbytes()), generator().set_state(held);
    return (int64_t)held.nbytes();
}

namespace at {
struct CUDAHooks : CUDAHooksInterface {  // torch asks its registry for this name
    CUDAHooks(CUDAHooksArgs) {}
    void init() const override {}
    bool hasCUDA() const override { return true; }
    bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
    bool isPinnedPtr(const void* p) const override { return pinned.count(const_cast<void*>(p)) > 0; }
    c10::Allocator* getPinnedMemoryAllocator() const override { return &page_locked; }
    c10::Device getDeviceFromPtr(void*) const override { return Guard::here(); }
    c10::DeviceIndex getCurrentDevice() const override { return 0; }
    c10::DeviceIndex current_device() const override { return 0; }
    int getNumGPUs() const override { return 1; }
    c10::DeviceIndex deviceCount() const override { return 1; }
    bool isAvailable() const override { return true; }
    bool isBuilt() const override { return true; }
    void deviceSynchronize(c10::DeviceIndex) const override { card_synchronize(); }
    const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return generator(); }
    at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::detail::createCPUGenerator(); }
};
REGISTER_CUDA_HOOKS(CUDAHooks);
}  // namespace at

// ---------------------------------------------------------------- operations

static Tensor with(at::Storage storage, c10::DispatchKey key, const Tensor& like) {
    auto t = at::detail::make_tensor<at::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
    t.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
    t.unsafeGetTensorImpl()->_set_neg(like.is_neg());
    return t;
}

/* The same memory as the CPU has it. */
static Tensor on_cpu(const Tensor& t) {
    if (!t.defined() || !t.is_cuda()) return t;
    auto keep = [](void* p) { delete static_cast<Tensor*>(p); };
    c10::DataPtr data(const_cast<void*>(t.storage().data()), new Tensor(t), keep, c10::Device(c10::kCPU));
    at::Storage storage(at::Storage::use_byte_size_t(), t.storage().nbytes(), std::move(data), c10::GetCPUAllocator(), true);
    return with(std::move(storage), c10::DispatchKey::CPU, t);
}

static Tensor room_for(const Tensor& t) {
    return at::detail::empty_strided_generic(t.sizes(), t.strides(), &pool, c10::DispatchKeySet(c10::DispatchKey::CUDA), t.scalar_type());
}

static bool begins(const std::string& name, std::initializer_list<const char*> with) {
    for (auto w : with) if (name.rfind(std::string("aten::") + w, 0) == 0) return true;
    return false;
}

/* Whether the host has to know numbers of the device for it. */
static bool waits(const std::string& name) {
    return begins(name, {"nonzero", "masked_select", "_unique", "unique_", "equal", "repeat_interleave.Tensor", "bincount"});
}

/* Whether it takes no arbitrary numbers, as there may be before the queue has run. */
static bool is_choosy(const std::string& name) {
    return begins(name, {"index", "_index", "gather", "scatter", "take", "embedding", "linalg", "_linalg", "geqrf", "orgqr",
                         "linalg_householder", "triangular", "cholesky", "bernoulli", "normal.", "multinomial", "nll_loss", "ormqr"});
}

/* Lends the CPU the numbers of a generator, for an operation that takes none (dropout). */
struct Lent {
    explicit Lent(at::Generator g) : lender(g), cpu(at::detail::getDefaultCPUGenerator()), own(cpu.get_state()) {
        cpu.set_state(lender.get_state());
    }
    ~Lent() {
        lender.set_state(cpu.get_state());
        cpu.set_state(own);
    }
    at::Generator lender, cpu;
    Tensor own;
};

struct Argument { Tensor card, cpu; };

static void operation(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
    entered = true;
    std::lock_guard<std::recursive_mutex> held(lock);
    const auto& schema = op.schema();
    const auto name = toString(schema.operator_name());
    if (waits(name)) wait(name);
    if (is_choosy(name)) card_synchronize();
    std::vector<Argument> all, written;
    bool dims = false, draws = false;
    auto turn = [&](const Tensor& t, bool write) {
        if (!t.defined()) return t;
        if (!t.is_cuda()) {
            dims = dims || t.dim();
            if (t.dim()) return t;
            Tensor number = t.clone();  // read now
            number.unsafeGetTensorImpl()->set_wrapped_number(t.unsafeGetTensorImpl()->is_wrapped_number());
            return number;
        }
        all.push_back({t, on_cpu(t)});
        if (write) written.push_back(all.back());
        return all.back().cpu;
    };
    const size_t n = schema.arguments().size(), m = schema.returns().size();
    torch::jit::Stack args = torch::jit::pop(*stack, n);
    for (size_t i = 0; i < n; i++) {
        IValue& v = args[i];
        const auto* alias = schema.arguments()[i].alias_info();
        const bool write = alias && alias->isWrite();
        if (v.isTensor()) v = turn(v.toTensor(), write);
        else if (v.isTensorList()) {
            c10::List<Tensor> to;
            for (const Tensor& t : v.toTensorVector()) to.push_back(turn(t, write));
            v = to;
        } else if (v.isOptionalTensorList()) {
            c10::List<std::optional<Tensor>> to;
            for (const std::optional<Tensor>& t : v.toOptionalTensorList().vec())
                to.push_back(t ? std::optional<Tensor>(turn(*t, false)) : t);
            v = to;
        } else if (v.isDevice()) v = c10::Device(c10::kCPU);
        if (schema.arguments()[i].type()->str().find("Generator") != std::string::npos) {
            draws = true;
            if (v.isNone()) v = generator();
        }
    }
    if (!all.empty() && dims) {
        TORCH_CHECK(is_choosy(name), "Expected all tensors to be on the same device, but some are on the CPU: ", name);
        wait("indices of the CPU in " + name);
    }
    at::Generator drawn;
    const bool seeded = !draws && op.hasTag(at::Tag::nondeterministic_seeded);
    if (seeded) drawn = generator().clone();
    if (draws)
        for (IValue& v : args) if (v.isGenerator()) drawn = v.toGenerator().clone();  // as it is now
    // once for the sizes of what it gives, undone; then in its turn
    std::vector<std::vector<char>> was;
    for (auto& a : written) was.emplace_back((const char*)a.cpu.storage().data(), (const char*)a.cpu.storage().data() + a.cpu.storage().nbytes());
    torch::jit::Stack given = args;
    auto call = [op, seeded](torch::jit::Stack& stack, at::Generator g) {
        std::optional<Lent> lent;
        if (seeded) lent.emplace(g);
        op.callBoxed(stack);
    };
    call(given, generator());
    for (size_t i = 0; i < written.size(); i++) {
        auto& [card, cpu] = written[i];
        if (cpu.storage().nbytes() == was[i].size() && cpu.storage().data() == card.storage().data()) {
            memcpy(const_cast<void*>(cpu.storage().data()), was[i].data(), was[i].size());
        } else {  // it has been given another size
            card.unsafeGetTensorImpl()->set_storage_keep_dtype(room_for(cpu).storage());
            cpu.unsafeGetTensorImpl()->set_storage_keep_dtype(on_cpu(card).storage());
        }
        card.unsafeGetTensorImpl()->set_sizes_and_strides(cpu.sizes(), cpu.strides(), cpu.storage_offset());
    }
    std::vector<std::pair<size_t, std::vector<Tensor>>> made;  // which of the returns, where its numbers go
    auto back = [&](const Tensor& t, std::vector<Tensor>& to) -> Tensor {
        to.emplace_back();
        if (!t.defined()) return t;
        for (auto& a : all) {
            if (a.cpu.is_same(t)) return a.card;
            if (t.storage().data() && t.storage().data() == a.card.storage().data())
                return with(at::Storage(a.card.storage()), c10::DispatchKey::CUDA, t);  // a view
        }
        Tensor room = room_for(t);
        to.back() = on_cpu(room);
        return room;
    };
    bool any = !written.empty();
    for (size_t i = 0; i < m; i++) {
        IValue& v = given[i];
        std::vector<Tensor> to;
        if (v.isTensor()) v = back(v.toTensor(), to);
        else if (v.isTensorList()) {
            c10::List<Tensor> list;
            for (const Tensor& t : v.toTensorVector()) list.push_back(back(t, to));
            v = list;
        }
        for (auto& t : to) any = any || t.defined();
        made.emplace_back(i, std::move(to));
        torch::jit::push(*stack, v);
    }
    if (!any) return;
    enqueue([call, args, made, drawn]() mutable {
        torch::jit::Stack now = args;
        at::Generator g = drawn.defined() ? drawn.clone() : drawn;
        if (g.defined()) for (IValue& v : now) if (v.isGenerator()) v = g;
        call(now, g);
        for (auto& [i, to] : made) {
            if (now[i].isTensor()) {
                if (to[0].defined()) to[0].copy_(now[i].toTensor());
            } else if (now[i].isTensorList()) {
                auto list = now[i].toTensorVector();
                for (size_t k = 0; k < to.size(); k++) if (to[k].defined()) to[k].copy_(list[k]);
            }
        }
    });
    if (waits(name)) card_synchronize();
}

static Tensor& copy_(Tensor& self, const Tensor& src, bool non_blocking) {
    entered = true;
    std::lock_guard<std::recursive_mutex> held(lock);
    Tensor to = on_cpu(self), from = on_cpu(src);
    if (self.is_cuda() != src.is_cuda() && self.numel()) {
        const Tensor& host = self.is_cuda() ? src : self;
        const bool locked = pinned.count(const_cast<void*>(host.storage().data()));
        if (!non_blocking) wait(self.is_cuda() ? "a copy to the device" : "a copy from the device");
        else if (!locked && self.is_cuda()) from = from.clone();  // the driver has read it when it returns
        else if (!locked) wait("a copy into memory that is not pinned");
    }
    enqueue([to, from]() mutable { to.copy_(from); });
    if (self.is_cuda() != src.is_cuda() && !non_blocking) card_synchronize();
    return self;
}

static at::Scalar local_scalar(const Tensor& t) {
    wait("a number is read");
    return at::_local_scalar_dense(on_cpu(t));
}

static Tensor empty(Ints size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>,
                    std::optional<bool>, std::optional<at::MemoryFormat> format) {
    return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &pool, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                     c10::dtype_or_default(dtype), format);
}

static Tensor empty_strided(Ints size, Ints stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                            std::optional<at::Device>, std::optional<bool>) {
    return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &pool,
                                             c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(dtype));
}

static const Tensor& resize_(const Tensor& self, Ints size, std::optional<at::MemoryFormat>) {
    auto sizes = C10_AS_INTARRAYREF_SLOW(size);
    auto* impl = self.unsafeGetTensorImpl();
    size_t need = at::detail::computeStorageNbytesContiguous(sizes, self.dtype().itemsize(), self.storage_offset());
    if (need > self.storage().nbytes()) {
        Tensor fresh = at::detail::empty_generic({(int64_t)need}, &pool, c10::DispatchKeySet(c10::DispatchKey::CUDA), at::kByte, std::nullopt);
        Tensor held = on_cpu(self), to = on_cpu(fresh);
        const size_t n = self.storage().nbytes();
        enqueue([=] { if (n) memcpy(to.data_ptr(), held.storage().data(), n); });
        impl->set_storage_keep_dtype(fresh.storage());
    }
    impl->set_sizes_contiguous(sizes);
    return self;
}

static Tensor& set_storage(Tensor& self, at::Storage from, c10::SymInt offset, Ints size, Ints stride) {
    auto* impl = self.unsafeGetTensorImpl();
    impl->set_storage_keep_dtype(from);
    impl->set_sizes_and_strides(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), offset.expect_int());
    return self;
}

static Tensor& set_whole_storage(Tensor& self, at::Storage from) {
    const c10::SymInt n = (int64_t)(from.nbytes() / self.itemsize()), one = 1;
    return set_storage(self, from, 0, {&n, 1}, {&one, 1});
}

static Tensor& set_tensor(Tensor& self, const Tensor& from) {
    return set_storage(self, from.storage(), from.sym_storage_offset(), from.sym_sizes(), from.sym_strides());
}

static Tensor view(const Tensor& self, Ints size) { return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size)); }

static Tensor strided(const Tensor& self, Ints size, Ints stride, std::optional<c10::SymInt> offset) {
    auto at = offset ? std::optional<int64_t>(offset->expect_int()) : std::nullopt;
    return at::native::as_strided_tensorimpl(self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), at);
}

static Tensor reshape_alias(const Tensor& self, Ints size, Ints stride) {
    return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&operation>()); }
TORCH_LIBRARY_IMPL(aten, CUDA, m) {
    m.impl("empty.memory_format", &empty);
    m.impl("empty_strided", &empty_strided);
    m.impl("as_strided", &strided);
    m.impl("view", &view);
    m.impl("_reshape_alias", &reshape_alias);
    m.impl("copy_", &copy_);
    m.impl("_local_scalar_dense", &local_scalar);
    m.impl("resize_", &resize_);
    m.impl("set_.source_Storage_storage_offset", &set_storage);
    m.impl("set_.source_Storage", &set_whole_storage);
    m.impl("set_.source_Tensor", &set_tensor);
}
