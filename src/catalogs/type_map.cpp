/*
 * The type mapping. Types that are not listed travel as the text of their output function.
 */
#include "type_map.h"

#include "server/blame.h"

/*
 * The type of an array's elements, or InvalidOid if it is none. Types that only look like one (int2vector, oidvector)
 * have a text of their own.
 */
static Oid
element_type(Oid type)
{
	Oid element = get_element_type(type);

	return OidIsValid(element) && get_array_type(element) == type ? element : InvalidOid;
}

static Encoding
type_encoding(Oid type)
{
	switch (type)
	{
		case INT2OID:
			return Encoding::Int16;
		case INT4OID:
			return Encoding::Int32;
		case INT8OID:
			return Encoding::Int64;
		case OIDOID:
		case XIDOID:
		case CIDOID:
			return Encoding::Unsigned32;
		case FLOAT4OID:
			return Encoding::Float;
		case FLOAT8OID:
			return Encoding::Double;
		case BOOLOID:
			return Encoding::Boolean;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return Encoding::Varlena;
		case NAMEOID:
			return Encoding::Name;
		case BYTEAOID:
			return Encoding::Bytes;
		case NUMERICOID:
			return Encoding::Numeric;
		case DATEOID:
			return Encoding::Date;
		case TIMEOID:
			return Encoding::Time;
		case TIMESTAMPOID:
			return Encoding::Timestamp;
		case TIMESTAMPTZOID:
			return Encoding::Timestamptz;
		case UUIDOID:
			return Encoding::Uuid;
		case JSONOID:
			return Encoding::JsonText;
		case JSONBOID:
			return Encoding::Jsonb;
		default:
			return OidIsValid(element_type(type)) ? Encoding::List : Encoding::Output;
	}
}

void
type_mapping(Oid type, TypeMapping *mapping)
{
	Oid base = getBaseType(type);
	Oid output;
	bool varlena;

	/* A domain over an array may be the element of another. */
	check_stack_depth();
	mapping->encoding = type_encoding(base);
	get_typlenbyvalalign(base, &mapping->length, &mapping->by_value, &mapping->align);
	getTypeOutputInfo(base, &output, &varlena);
	mapping->type = base;
	/* Apart: most values need none, and what all need is to lie close together. */
	mapping->output = static_cast<FmgrInfo *>(palloc0(sizeof(FmgrInfo)));
	mapping->output->fn_oid = output;
	mapping->output->fn_mcxt = CurrentMemoryContext;
	mapping->element = nullptr;
	if (mapping->encoding == Encoding::List)
	{
		mapping->element = static_cast<TypeMapping *>(palloc(sizeof(TypeMapping)));
		type_mapping(element_type(base), mapping->element);
	}
}

FmgrInfo *
type_output(TypeMapping *mapping)
{
	FmgrInfo *output = mapping->output;

	if (unlikely(output->fn_addr == nullptr))
	{
		MemoryContext caller = MemoryContextSwitchTo(output->fn_mcxt);

		blame.type = format_type_be(mapping->type);
		fmgr_info(output->fn_oid, output);
		blame.type = nullptr;
		MemoryContextSwitchTo(caller);
	}
	return output;
}

static bool
are_mapped_alike(const TypeMapping *a, const TypeMapping *b)
{
	if (a->encoding != b->encoding)
		return false;
	if (a->encoding == Encoding::List)
		return are_mapped_alike(a->element, b->element);
	return a->encoding != Encoding::Output || a->output->fn_oid == b->output->fn_oid;
}

bool
are_written_alike(Oid former, Oid present)
{
	TypeMapping before;
	TypeMapping now;

	if (former == present)
		return true;
	if (!SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(former)))
		return false;
	type_mapping(former, &before);
	type_mapping(present, &now);
	return are_mapped_alike(&before, &now);
}
