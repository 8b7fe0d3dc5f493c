//! What can be told without a kernel.

use aya::Endianness;

use super::*;

/// A function without arguments, of a type that the kernel would call its own.
fn kernel_with(functions: &[&str]) -> Btf {
    use aya_obj::btf::{BtfType, Func, FuncLinkage, FuncProto};
    let mut types = Btf::new();
    let prototype = types.add_type(BtfType::FuncProto(FuncProto::new(Vec::new(), 0)));
    for function in functions {
        let name = types.add_string(function);
        let function = Func::new(name, prototype, FuncLinkage::Static);
        types.add_type(BtfType::Func(function));
    }
    Btf::parse(&types.to_bytes(), Endianness::default()).expect("types")
}

#[test]
fn the_first_name_that_the_kernel_knows_counts() {
    let kernel = kernel_with(&["__do_sys_sync", "__x64_sys_read", "__do_sys_read"]);
    let id = |names: [&str; 2]| function_id(&kernel, &names.map(str::to_owned)).ok();
    let [sync, read] = ["sync", "read"]
        .map(|call| id([&format!("__x64_sys_{call}"), &format!("__do_sys_{call}")]));
    assert_eq!((sync, read), (Some(2), Some(3)));
    let missing = function_id(&kernel, &["__x64_sys_fork".to_owned()]);
    let error = missing.expect_err("it is not there").to_string();
    assert!(error.contains("__x64_sys_fork"), "{error}");
    assert!(function_id(&kernel, &[]).is_err());
}

#[test]
fn marked_calls_become_those_of_kernel_functions() {
    let kernel = kernel_with(&["other", "bpf_task_release"]);
    let call = |register, number| {
        // SAFETY: an instruction of zeros is one.
        let mut call: bpf_insn = unsafe { mem::zeroed() };
        call.code = 0x85;
        call.set_src_reg(register);
        call.imm = number;
        call
    };
    let release = names::KERNEL_CALL + 1;
    // A helper, a function of the program's own, and the call.
    let mut code = [call(0, 14), call(1, release), call(0, release)];
    call_kernel_functions(&mut code, &kernel).expect("the kernel has it");
    let seen = code.map(|call| (call.src_reg(), call.imm));
    assert_eq!(seen, [(0, 14), (1, release), (2, 3)]);
    let mut code = [call(0, names::KERNEL_CALL)];
    let error = call_kernel_functions(&mut code, &kernel).expect_err("it does not");
    assert!(error.to_string().contains("bpf_task_from_pid"), "{error}");
    let last = i32::try_from(names::KERNEL_FUNCTIONS.len()).expect("few");
    for number in [names::KERNEL_CALL - 1, names::KERNEL_CALL + last, -1] {
        let mut code = [call(0, number)];
        call_kernel_functions(&mut code, &kernel).expect("not ours");
        assert_eq!((code[0].src_reg(), code[0].imm), (0, number));
    }
}

#[test]
fn a_name_is_cut_to_what_the_kernel_keeps() {
    for (name, kept) in [
        ("inj_fmod_entry", "inj_fmod_entry"),
        ("a_name_too_long_for_it", "a_name_too_long"),
    ] {
        let attr = attributes(&[], name, 7, By::ModifyReturn);
        // SAFETY: the fields of BPF_PROG_LOAD, all of them integers.
        let load = unsafe { &attr.__bindgen_anon_3 };
        let bytes = load.prog_name.map(i8::cast_unsigned);
        let text = bytes.split(|&byte| byte == 0).next();
        assert_eq!(text, Some(kept.as_bytes()));
        assert_eq!((load.attach_btf_id, load.insn_cnt), (7, 0));
    }
}
